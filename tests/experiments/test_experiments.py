"""The experiments measure what they say; what they find is not asserted here."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow
import pytest
import torch

from inhibitor_transformers.attention import inhibitor_attention
from inhibitor_transformers.distill import DistillConfig
from inhibitor_transformers.distill.calibrate import calibrate
from inhibitor_transformers.distill.data import StepBatches, exact_windows, pad_windows, token_windows
from inhibitor_transformers.distill.scales import hidden_scales
from inhibitor_transformers.distill.settings import build
from inhibitor_transformers.models.contexts import output_projections, record_contexts
from inhibitor_transformers.tasks import get_task
from tests.distill.tiny import bert_tokenizer, pair, sentences
from tests.models import tiny
from tests.scripts import Script

SPLITS = ("train", "validation")


def stages(settings: dict) -> list:
    """The checked settings of every stage; bfloat16 is refused without `use_cpu` where there is no GPU."""
    config = build(DistillConfig, settings, where="a row")
    names = enumerate(config.stage_names)
    return [config.build_stage(i, Path("out"), **({} if n == "calibrate" else {"use_cpu": True})) for i, n in names]


def test_every_row_of_the_ablations_is_a_recipe_of_its_own(script: Script, minilm_path: Path) -> None:
    ablations = script("ablations")
    recipe = ablations.settings_of("recipe", bf16=False)
    stages(recipe)
    found = [recipe]
    for row in ablations.SETTINGS["rows"]:
        if row != "recipe":
            settings = ablations.settings_of(row, bf16=False)
            stages(settings)
            assert settings not in found, row
            found.append(settings)


def test_table_of_the_ablations(script: Script, tmp_path: Path) -> None:
    ablations = script("ablations")
    near = dict.fromkeys(map(str, ablations.LENGTHS), 0.5)
    for row, sts in (("rho 1/2", 0.25), ("recipe", 0.75)):
        record = {"error": 0.1, "first error": 0.2, "sts": sts, "agreement": near, "processor seconds": 61}
        folder = ablations.folder_of(row, tmp_path)
        folder.mkdir()
        (folder / "measured.json").write_text(json.dumps(record))
    rows = ablations.table(tmp_path).rows
    assert [row[0] for row in rows] == ["recipe", "rho 1/2"]
    assert rows[1] == ["rho 1/2", "0.100", "0.200", "0.2500", *["0.500"] * 5, "1"]


def test_relative_error_is_one_for_the_mean(script: Script) -> None:
    theirs = torch.randn(20, 3, dtype=torch.float64) + 5
    relative_error = script("common").relative_error
    assert relative_error(theirs.mean(0).expand(20, 3), theirs) == pytest.approx(1)
    assert relative_error(theirs, theirs) == 0


def test_correlation_of_rows(script: Script) -> None:
    a, b = torch.randn(2, 1, 1, 1, 9, dtype=torch.float64)
    valid = torch.arange(9) < 6
    ours = script("context_targets").correlation(a, b, valid)
    assert ours.item() == pytest.approx(np.corrcoef(a.flatten()[:6], b.flatten()[:6])[0, 1])


@pytest.mark.parametrize("target", ["context", "output", "pattern"])
def test_targets_of_contexts(script: Script, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training lowers the error that is aimed at; the output projection is trained for the output alone."""
    monkeypatch.chdir(tmp_path)
    targets, tokenizer = script("context_targets"), bert_tokenizer()
    student, teacher, plan = pair()
    texts = sentences(40)
    calibrate(student, teacher, plan, [pad_windows(exact_windows(texts, tokenizer, 16, 8), tokenizer)])
    windows = token_windows(texts, tokenizer, [8, 16], max_tokens=4096)
    batches = StepBatches(windows, tokenizer, steps=12, tokens_per_step=128, lengths=[8, 16])
    out_lin = student.transformer.layer[0].attention.out_lin.weight.clone()
    before = targets.held_out_errors(student, teacher, batches)
    targets.align(student, target, teacher, batches, 12)
    after = targets.held_out_errors(student.eval(), teacher, batches)
    assert after[target == "output"] < before[target == "output"]
    assert torch.equal(student.transformer.layer[0].attention.out_lin.weight, out_lin) == (target != "output")


@pytest.mark.parametrize("choice", ["all", "last"])
def test_matched_layers(script: Script, choice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training lowers the last layer's error; what is matched are the terms of the chosen layers alone."""
    monkeypatch.chdir(tmp_path)
    experiment, tokenizer = script("hidden_layers"), bert_tokenizer()
    monkeypatch.setattr(experiment.ablations, "LENGTHS", (8, 16))
    student, teacher, plan = pair()
    batches = StepBatches(
        token_windows(sentences(40), tokenizer, [8, 16], max_tokens=4096),
        tokenizer,
        steps=12,
        tokens_per_step=128,
        lengths=[8, 16],
    )
    batch = batches[0]
    objective = experiment.MatchedLayers(student, teacher, plan, hidden_scales(teacher, plan, [batch]), 64.0)
    objective.layers = {1}
    before = objective(student, batch, 1.0)
    assert set(before) == {"hidden/layer_1", "first/layer_1"}
    experiment.align(student, choice, teacher, batches, bf16=False)
    after = objective(student, batch, 1.0)
    assert after["hidden/layer_1"] < before["hidden/layer_1"]


def test_which_layers_are_matched(script: Script) -> None:
    matched = script("hidden_layers").matched
    found = [matched(choice, 6) for choice in ("all", "last", "upper")]
    assert found == [{0, 1, 2, 3, 4, 5}, {5}, {3, 4, 5}]


@pytest.mark.parametrize("centre", ["mean", "none"])
def test_attention_with_a_centre_of_ones_own(script: Script, centre: str) -> None:
    """With the centres that the library knows, it is the library's operation."""
    experiment, (_, teacher, _) = script("centre"), pair()
    attention = experiment.Attention(teacher.model.encoder.layer[0].attention.self, centre)
    with torch.no_grad():
        for scalar in (attention.gamma, attention.delta, attention.eta):
            scalar.uniform_(0.1, 0.9)
    hidden = torch.randn(2, 7, 32)
    q, k, v = (experiment.split_heads(linear(hidden), attention.heads) for linear in attention.linears)
    scalars = {name: getattr(attention, name) for name in ("gamma", "delta", "eta")}
    theirs = inhibitor_attention(q, k, v, **scalars, signed=True, center=centre)
    torch.testing.assert_close(attention(hidden), theirs, rtol=1e-4, atol=1e-5)


def test_scalars_of_a_layer_are_those_of_its_only_head(script: Script) -> None:
    tokenizer, texts = bert_tokenizer(), sentences(40)
    batches = [pad_windows(exact_windows(texts, tokenizer, n, 4), tokenizer) for n in (8, 16)]
    ours, teacher, plan = pair(num_attention_heads=1)
    theirs, _, _ = pair(num_attention_heads=1)
    with torch.no_grad():
        script("calibration").calibrate_layers(ours, teacher, batches)
    calibrate(theirs, teacher, plan, batches)
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, msg=name)


def test_saturation_is_the_mean_of_the_last_steps(script: Script, tmp_path: Path) -> None:
    stage = tmp_path / "2-align_contexts"
    stage.mkdir()
    log = [
        {"step": s, "loss": 1.0, "loss/context/layer_0": s, "loss/context/layer_1": 2 * s} for s in range(10, 101, 10)
    ]
    (stage / "log.json").write_text(json.dumps([*log, {"step": 100, "train_runtime": 1.0}]))
    rows = script("saturation").table(stage, 2048).rows
    assert rows == [
        ["0.02", "10", "15.000", "20.000"],
        ["0.10", "50", "52.500", "70.000"],
        ["0.20", "100", "127.500", "170.000"],
    ]


def test_scalars_by_layer_and_head(script: Script, tmp_path: Path) -> None:
    scalars, student = script("scalars"), tiny.tiny_student()
    inhibitor = student.transformer.layer[1].attention.inhibitor
    with torch.no_grad():
        inhibitor.gamma.copy_(torch.tensor([1.0, 3.0]))
    values = scalars.scalars(student)
    assert scalars.table(values).rows[1][:2] == ["layer 1", "2.00 (1.00 … 3.00)"]
    scalars.plot(values, tmp_path / "plot.svg")
    assert (tmp_path / "plot.svg").stat().st_size > 0


def test_parts_of_quantisation(script: Script) -> None:
    """Every way gives another model than the others."""
    experiment, tokenizer = script("quantization"), bert_tokenizer()
    student, _, _ = pair()
    texts = sentences(8, clauses=(2, 6))
    tokens = tokenizer(texts[:1], return_tensors="pt")
    inputs = {name: tokens[name] for name in ("input_ids", "attention_mask")}
    outputs = {
        name: model(**inputs).last_hidden_state.detach()
        for name, model in experiment.variants(student, texts, tokenizer)
    }
    assert len(outputs) == 7
    names = list(outputs)
    for i, name in enumerate(names):
        assert not any(torch.equal(outputs[name], outputs[other]) for other in names[:i]), name


@pytest.mark.parametrize("inhibitor", [False, True])
def test_noise_of_dropout(script: Script, inhibitor: bool) -> None:
    """It grows with the rate, and there is none at rate 0: nothing else than attention drops."""
    model = tiny.tiny_student(dropout=0.5) if inhibitor else tiny.tiny_teacher("distilbert", dropout=0.5)
    experiment, inputs = script("dropout"), tiny.texts()
    small, large = (experiment.noise(model, inputs, rate, draws=200) for rate in (0.05, 0.3))
    assert experiment.noise(model, inputs, 0.0, draws=1) == (0, 0)
    assert all(0 < a < b for a, b in zip(small, large, strict=True))
    everywhere = experiment.noise(model, inputs, None, draws=200)
    attention = experiment.noise(model, inputs, 0.1, draws=200)  # the rate that its attention has in training
    assert all(a > b for a, b in zip(everywhere, attention, strict=True))


@pytest.mark.parametrize("inhibitor", [False, True])
def test_what_a_step_keeps_of_its_gradient(script: Script, inhibitor: bool) -> None:
    """All of it where the step is short, in every part, and not where it is long."""
    model = (tiny.tiny_student() if inhibitor else tiny.tiny_teacher("distilbert")).double()
    found = script("linearity").kept(model, tiny.texts(), [1e-8, 1.0], seed=0)
    assert len(found) == 4
    for slope, (short, long) in found.values():
        assert slope > 0
        assert short == pytest.approx(1, abs=1e-3)
        assert long < 0.9


def test_errors_on_the_texts_of_tasks(script: Script) -> None:
    """None of a model against itself, some where one word differs, also for the first token, which attends to it."""
    errors, model, inputs = script("task_errors").errors, tiny.tiny_teacher("bert"), tiny.texts()
    assert errors(model, model, inputs) == (0, 0)
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.embeddings.word_embeddings.weight[int(inputs["input_ids"][0, 1])] += 1
    assert min(errors(other, model, inputs)) > 0


def test_training_loss_is_the_mean_of_seeds_by_epoch(script: Script, tmp_path: Path) -> None:
    line = "{{'loss': '{}', 'grad_norm': '1', 'epoch': '{}'}}\n"
    for seed, shift in enumerate((0, 2)):
        lines = [line.format(loss + shift, epoch) for loss, epoch in ((1, 0.5), (3, 1), (5, 1.5))]
        other = "{'eval_selection_loss': '9', 'epoch': '1'}\n"
        (tmp_path / f"seed-{seed}.log").write_text(other.join(lines))
    assert script("training_loss").by_epoch(tmp_path) == {1: 3, 2: 6}


def test_unknown_rows_are_refused(
    script: Script, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr("sys.argv", ["ablations.py", "rho 7"])
    with pytest.raises(SystemExit):
        script("ablations").main()
    assert "unknown rows ['rho 7']" in capsys.readouterr().err


def test_a_teacher_in_bfloat16_moves_a_little(script: Script) -> None:
    _, teacher, _ = pair()
    batch = pad_windows([np.arange(5, 5 + n, dtype=np.int32) for n in (9, 12)], bert_tokenizer())
    moved, seconds = script("teacher_precision").compare(teacher, [batch])
    assert len(moved) == teacher.model.config.num_hidden_layers
    assert all(0 < x < 1e-2 for x in moved)
    assert all(len(times) == 1 for times in seconds.values())


def test_probes_read_first_tokens_and_means_of_two_layers(script: Script) -> None:
    _, teacher, _ = pair()
    texts, tokenizer = sentences(5), bert_tokenizer()
    found = script("probes").features(teacher.model, tokenizer, texts)
    alone = tokenizer(texts[3], truncation=True, max_length=128, return_tensors="pt")
    with torch.no_grad():
        hidden = teacher.model(**alone, output_hidden_states=True).hidden_states
    expected = torch.cat([v for h in (hidden[1], hidden[2]) for v in (h[0, 0], h[0].mean(0))])
    np.testing.assert_allclose(found[3], expected.numpy(), atol=1e-5)


def test_the_splits_with_more_to_be_judged_by_share_no_example(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    larger = script("larger_validation")
    monkeypatch.setattr(larger, "SIZES", {"cola": (30, 60)})
    source = tmp_path / "data" / "glue" / "cola"
    source.mkdir(parents=True)
    table = {"sentence": [f"text {i}" for i in range(100)], "label": [0] * 100, "idx": list(range(100))}
    larger.parquet.write_table(pyarrow.table(table), source / "train.parquet")
    larger.cut("cola", tmp_path / "data", tmp_path / "out")
    folder = tmp_path / "out" / "cola"
    trained, judged = (larger.parquet.read_table(folder / f"{s}.parquet")["idx"].to_pylist() for s in SPLITS)
    assert (len(trained), len(judged)) == (30, 60)
    assert not set(trained) & set(judged)
    with pytest.raises(FileExistsError):
        larger.cut("cola", tmp_path / "data", tmp_path / "out")


def test_a_change_that_is_missed(script: Script) -> None:
    compared, wanted = script("following").compared, torch.randn(5, 3)
    missed, moved = zip(*(compared(wanted, share * wanted) for share in (1.0, 0.0, 0.5, -1.0)), strict=True)
    assert missed == pytest.approx([0, 1, 0.25, 4])
    assert moved == pytest.approx([1, 0, 0.25, 1])


@pytest.mark.parametrize("inhibitor", [False, True])
def test_a_model_follows_itself(script: Script, inhibitor: bool) -> None:
    """Wholly, in every part; and the base's own change is what its fine-tuning made of its states."""
    experiment, inputs = script("following"), tiny.texts()
    base = tiny.tiny_student() if inhibitor else tiny.tiny_teacher("distilbert")
    tuned = copy.deepcopy(base)
    with torch.no_grad():
        for weight in tuned.transformer.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    changes = experiment.changes(base, tuned)
    wanted = tuned(**inputs).last_hidden_state - base(**inputs).last_hidden_state
    torch.testing.assert_close(experiment.response(base, changes["all layers"], inputs), wanted)
    weights = base.state_dict()
    for name, amount in changes["all layers, at random"].items():
        assert float(amount.std() / weights[name].std()) == pytest.approx(0.01, rel=0.1)
    rows = experiment.of_hidden_states(base, tuned, {"itself": base}, inputs).rows
    assert all(row[2:] == ["0.000 / 0.000", "1.00"] and float(row[1]) > 0 for row in rows)
    rows = experiment.of_attention(base, tuned, {"itself": base}, inputs).rows
    # the first layer's input is the embeddings, which are the same in both
    assert [row[1:] for row in rows[1:]] == [["0.000", "1.000"]] * (len(rows) - 1)


@pytest.mark.parametrize("inhibitor", [False, True])
def test_contexts_of_given_states(script: Script, inhibitor: bool) -> None:
    """Fed its own states, every layer has the contexts that the model has."""
    model, inputs = tiny.tiny_student() if inhibitor else tiny.tiny_teacher("distilbert"), tiny.texts()
    valid = inputs["attention_mask"].bool()
    with record_contexts(output_projections(model)) as own, torch.no_grad():
        hidden = model(**inputs, output_hidden_states=True).hidden_states
    found = script("following").contexts(model, hidden, valid)
    for ours, theirs in zip(found, own, strict=True):
        torch.testing.assert_close(ours, theirs[valid])


def test_parts_of_a_task_vector(script: Script, tmp_path: Path) -> None:
    experiment = script("task_vectors")
    base = tiny.tiny_teacher("distilbert")
    tuned = tiny.tiny_teacher("distilbert", "SequenceClassification")
    tuned.base_model.load_state_dict({name: 1.1 * weight for name, weight in base.state_dict().items()})
    student = tiny.tiny_student("ForSequenceClassification")
    student.save_pretrained(tmp_path)
    data = SimpleNamespace(task=get_task("sst2"))
    before = student.base_model.state_dict()
    changed = {}
    for kept in experiment.KEPT:
        made = experiment.started(str(tmp_path), data, tuned, base, kept)
        assert torch.equal(made.classifier.weight, tuned.classifier.weight)
        encoder = made.base_model.state_dict()
        changed[kept] = {name for name in before if not torch.equal(encoder[name], before[name])}
    weights = {name for name in before if ".inhibitor." not in name}
    attention = {name for name in weights if ".attention." in name}
    pairs = {name for name in weights if "q_lin" in name or "k_lin" in name}
    assert list(changed.values()) == [weights, weights - pairs, weights - attention, set()]
    assert [experiment.distance(tuned, base, kind) for kind in experiment.KINDS] == pytest.approx([0.1] * 7, rel=1e-4)
