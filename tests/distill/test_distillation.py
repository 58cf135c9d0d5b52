"""A whole distillation from YAML settings: what it leaves behind, and what it refuses."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoModel, AutoTokenizer

from inhibitor_transformers.common import lock
from inhibitor_transformers.distill import ConfigError, Distillation, DistillConfig
from inhibitor_transformers.distill import distillation as distillation_module
from inhibitor_transformers.distill import load_data as load_data_module
from inhibitor_transformers.distill.distillation import load_layer_map
from inhibitor_transformers.models import InhibiDistilBertForMaskedLM, InhibiDistilBertModel
from tests.distill.chains import CALIBRATE, RUNTIME, distill, settings, trained
from tests.distill.tiny import (
    assert_same_weights,
    bert,
    bert_tokenizer,
    distilbert,
    distilbert_tokenizer,
    saved,
    weights_of,
)


@pytest.fixture(scope="module")
def run(teacher_path, text_path, tmp_path_factory):
    """(folder, what was said, names passed to on_stage) of a run of all stages but the masked LM."""
    stages = [CALIBRATE, trained("align_attention"), trained("align_hidden")]
    config = yaml.safe_load(yaml.safe_dump(settings(teacher_path, text_path, stages)))
    folder, said, seen = tmp_path_factory.mktemp("chain") / "run", [], []
    made = Distillation(DistillConfig(**config), folder, runtime=RUNTIME, log=said.append)
    made.run(lambda name, student: seen.append((name, student.training)))
    return folder, said, seen


class TestChain:
    def test_layout_of_the_run_folder(self, run):
        folder, *_ = run
        assert {p.name for p in folder.iterdir() if p.is_dir()} == {"stages"}
        files = {p.name for p in folder.iterdir() if p.is_file()}
        assert files >= {"run.yaml", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
        stages = {p.name: {q.name for q in p.iterdir()} for p in (folder / "stages").iterdir()}
        assert stages.keys() == {"1-calibrate", "2-align_attention", "3-align_hidden"}
        assert stages["1-calibrate"] == {"calibration.json", "student"}
        for name in ("2-align_attention", "3-align_hidden"):
            assert stages[name] == {"student", "log.json", "checkpoint-4", "checkpoint-6"}  # the last two are kept

    def test_the_finished_student_loads_and_is_that_of_the_last_stage(self, run):
        folder, *_ = run
        assert_same_weights(folder, folder / "stages" / "3-align_hidden" / "student")
        student, tokenizer = AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
        assert type(student) is InhibiDistilBertModel
        assert tokenizer.get_vocab() == bert_tokenizer().get_vocab()
        hidden = student(**tokenizer("the cat sees a dog", return_tensors="pt")).last_hidden_state
        assert hidden.isfinite().all()

    def test_run_yaml_holds_the_settings(self, run, teacher_path):
        folder, *_ = run
        record = yaml.safe_load((folder / "run.yaml").read_text())
        assert record["teacher"] == teacher_path
        assert [next(iter(stage)) for stage in record["stages"]] == ["calibrate", "align_attention", "align_hidden"]

    def test_every_stage_changes_what_it_is_there_for(self, run, teacher_path):
        folder, *_ = run
        start = InhibiDistilBertModel.from_teacher(AutoModel.from_pretrained(teacher_path)).state_dict()
        names = ["1-calibrate", "2-align_attention", "3-align_hidden"]
        after = [weights_of(folder / "stages" / name / "student") for name in names]
        changed = []
        for a, b in zip([start, *after[:2]], after, strict=True):
            changed.append({name for name in b if not torch.equal(a[name], b[name])})
        assert all(".inhibitor." in name for name in changed[0])
        parts = ("q_lin", "k_lin", "v_lin", "inhibitor")
        trained = {name for name in start if any(f"attention.{part}." in name for part in parts)}
        assert changed[1] == trained
        assert changed[2] == {name for name in start if not name.startswith("embeddings.")}

    def test_a_scalar_can_be_fixed(self, teacher_path, text_path, tmp_path):
        """At one value of the calibration's grid, and through both stages."""
        fixed = {"frozen_scalars": ["length_exponent"]}
        calibration = {"calibrate": CALIBRATE["calibrate"] | {"length_exponents": [0.5]}}
        stages = [calibration, trained("align_attention", **fixed), trained("align_hidden", **fixed)]
        distill(settings(teacher_path, text_path, stages), tmp_path / "run")
        for block in AutoModel.from_pretrained(tmp_path / "run").transformer.layer:
            inhibitor = block.attention.inhibitor
            assert inhibitor.length_exponent.tolist() == [0.5] * len(inhibitor.length_exponent)
            assert inhibitor.gamma.unique().numel() > 1

    def test_every_loss_term_is_in_the_log(self, run):
        folder, *_ = run
        for stage, kinds in (("2-align_attention", ["attention"]), ("3-align_hidden", ["hidden", "cls"])):
            log = json.loads((folder / "stages" / stage / "log.json").read_text())
            steps = [entry for entry in log if "loss" in entry]
            assert [entry["step"] for entry in steps] == [2, 4, 6]
            for entry in steps:
                terms = [entry[f"loss/{kind}/layer_{i}"] for kind in kinds for i in range(2)]
                assert sum(terms) == pytest.approx(entry["loss"], rel=1e-5)

    def test_calibration_is_recorded(self, run):
        folder, *_ = run
        record = json.loads((folder / "stages" / "1-calibrate" / "calibration.json").read_text())
        assert all(
            b > a for i in range(2) for b, a in zip(record["before"][i], record["relative_error"][i], strict=True)
        )

    def test_it_says_what_it_does_and_needs(self, run):
        _, said, _ = run
        text = "\n".join(said)
        assert "student 0 ← teacher 0" in text
        assert "stage 2 of 3: align_attention" in text
        assert text.count("memory, estimated: ") == 2
        assert said.index("stage 2 of 3: align_attention") < next(i for i, line in enumerate(said) if "memory" in line)
        assert "layer 1: relative error of the attention outputs" in text

    def test_on_stage_is_called_as_each_stage_ends(self, run):
        *_, seen = run
        assert [name for name, _ in seen] == ["start", "calibrate", "align_attention", "align_hidden"]
        assert not any(training for _, training in seen)


def test_losses_fall(teacher_path, text_path, tmp_path):
    longer = {"max_steps": 60, "logging_steps": 15, "save_steps": 60, "learning_rate": 5e-3}
    stages = [CALIBRATE, trained("align_attention", **longer), trained("align_hidden", **longer)]
    distill(settings(teacher_path, text_path, stages), tmp_path / "run")
    for stage in ("2-align_attention", "3-align_hidden"):
        log = json.loads((tmp_path / "run" / "stages" / stage / "log.json").read_text())
        losses = [entry["loss"] for entry in log if "loss" in entry]
        assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("name", ["align_attention", "align_hidden"])
def test_a_trained_stage_works_alone(name, teacher_path, text_path, tmp_path):
    distill(settings(teacher_path, text_path, [trained(name)]), tmp_path / "run")
    assert AutoModel.from_pretrained(tmp_path / "run").num_parameters() > 0


@pytest.mark.parametrize("first", [True, False])
def test_each_stage_has_a_precision_of_its_own(first, teacher_path, text_path, tmp_path):
    stages = [trained("align_attention", bf16=first), trained("align_hidden", bf16=not first)]
    distill(settings(teacher_path, text_path, stages), tmp_path / "run")
    assert (tmp_path / "run" / "config.json").exists()


def test_two_runs_with_the_same_seed_are_bit_equal(chain, tmp_path):
    for name in ("a", "b"):
        distill(chain, tmp_path / name)
    assert_same_weights(tmp_path / "a", tmp_path / "b")


def test_another_seed_gives_another_student(chain, tmp_path):
    for seed in (0, 1):
        distill(chain | {"seed": seed}, tmp_path / str(seed))
    a, b = (weights_of(tmp_path / name)["transformer.layer.0.attention.q_lin.weight"] for name in "01")
    assert not torch.equal(a, b)


def test_the_layer_rule_decides_the_depth(chain, tmp_path):
    said = distill(chain | {"layers": "last 1"}, tmp_path / "run")
    assert "student 0 ← teacher 1" in said
    assert AutoModel.from_pretrained(tmp_path / "run").config.n_layers == 1


def test_student_settings_reach_the_student(teacher_path, text_path, tmp_path):
    student = {"inhibitor_signed": False, "inhibitor_length_reference": 32}
    distill(settings(teacher_path, text_path, [CALIBRATE], student=student), tmp_path / "run")
    config = AutoModel.from_pretrained(tmp_path / "run").config
    assert (config.inhibitor_signed, config.inhibitor_length_reference) == (False, 32)


def test_folded_segments(teacher_path, text_path, tmp_path):
    distill(settings(teacher_path, text_path, [CALIBRATE], segments="fold"), tmp_path / "run")
    assert AutoModel.from_pretrained(tmp_path / "run").config.type_vocab_size == 0


def test_a_length_that_no_text_reaches_is_left_out_of_calibration(teacher_path, tmp_path):
    """`inhibit convert` on short texts failed, with nothing that its user could have changed."""
    short = tmp_path / "short.txt"
    short.write_text("\n".join(f"the {a} sees a {b} and the {b} sees a {a} ." for a in "bcdefgh" for b in "jklmnopq"))
    said = distill(settings(teacher_path, str(short), [{"calibrate": {"lengths": [8, 64]}}]), tmp_path / "run")
    assert "no text is as long as 64 tokens: calibrating without that length" in said


def test_a_length_that_the_model_cannot_read_is_left_out_of_calibration(text_path, tmp_path):
    """The default lengths go to 256: a teacher with fewer positions could not be converted."""
    teacher = saved(bert(max_position_embeddings=40), tmp_path / "teacher")
    said = distill(settings(teacher, text_path, [{"calibrate": {"lengths": [16, 64]}}]), tmp_path / "run")
    assert "the model reads at most 40 tokens: calibrating without 64" in said


def test_calibration_without_any_length_is_an_error(teacher_path, tmp_path):
    short = tmp_path / "short.txt"
    short.write_text("\n".join(f"the {a} sees the {b}" for a in "bcdefgh" for b in "jklmnopq"))
    with pytest.raises(ValueError, match="nothing to calibrate on: no text is as long as 32 tokens"):
        distill(settings(teacher_path, str(short), [{"calibrate": {"lengths": [64, 32]}}]), tmp_path / "run")


@pytest.fixture(scope="module")
def odd_inputs(tmp_path_factory, teacher_path, student_path) -> dict[str, str]:
    """Paths of inputs that no run can use, by their names in the cases below."""
    folder = tmp_path_factory.mktemp("odd")
    short, nan, quantized = (folder / name for name in ("short.txt", "nan", "quantized"))
    short.write_text("\n".join(f"the {a} sees a {b} and the {b} sees a {a} ." for a in "bcdefgh" for b in "jklmnopq"))
    shutil.copytree(teacher_path, nan)
    config = json.loads((nan / "config.json").read_text())
    (nan / "config.json").write_text(json.dumps(config | {"layer_norm_eps": float("nan")}))
    shutil.copytree(student_path, quantized)
    config = json.loads((quantized / "config.json").read_text())
    method = {"quantization_config": {"quant_method": "inhibitor_int8"}}
    (quantized / "config.json").write_text(json.dumps(config | method))
    plain = saved(distilbert(), folder / "plain", distilbert_tokenizer())
    paths = {"SHORT": short, "PLAIN": plain, "NAN": nan, "QUANTIZED": quantized}
    return {name: str(path) for name, path in paths.items()} | {"TEACHER": teacher_path}


class TestRefusals:
    def test_an_existing_folder(self, chain, tmp_path):
        (tmp_path / "kept.txt").write_text("mine")
        with pytest.raises(ConfigError, match="exists and holds no run: choose another folder"):
            distill(chain, tmp_path)
        assert (tmp_path / "kept.txt").read_text() == "mine"

    def test_a_file_in_place_of_the_folder(self, chain, tmp_path):
        (tmp_path / "run").write_text("mine")
        with pytest.raises(ConfigError, match="is a file"):
            distill(chain, tmp_path / "run", overwrite=True)

    def test_resuming_what_is_no_run(self, chain, tmp_path):
        (tmp_path / "kept.txt").write_text("mine")
        with pytest.raises(ConfigError, match="holds no run to resume"):
            distill(chain, tmp_path, resume=True)

    def test_resume_and_overwrite_together(self, chain, tmp_path):
        with pytest.raises(ConfigError, match="give one of them"):
            distill(chain, tmp_path / "run", resume=True, overwrite=True)

    def test_an_empty_folder_is_fine(self, teacher_path, text_path, tmp_path):
        distill(settings(teacher_path, text_path, [CALIBRATE]), tmp_path)
        assert (tmp_path / "model.safetensors").exists()

    def test_overwrite_deletes_what_was_there(self, teacher_path, text_path, tmp_path):
        config = settings(teacher_path, text_path, [CALIBRATE])
        distill(config, tmp_path / "run")
        (tmp_path / "run" / "old.txt").write_text("old")
        with pytest.raises(ConfigError, match="exists; add --overwrite to replace the run in it"):
            distill(config, tmp_path / "run")
        distill(config | {"seed": 1}, tmp_path / "run", overwrite=True)
        assert not (tmp_path / "run" / "old.txt").exists()
        assert [p.name for p in tmp_path.iterdir()] == ["run"]

    def test_a_run_that_fails_leaves_the_one_that_it_was_to_replace(
        self, teacher_path, text_path, tmp_path, monkeypatch
    ):
        config = settings(teacher_path, text_path, [CALIBRATE])
        distill(config, tmp_path / "run")
        before = weights_of(tmp_path / "run")
        other = config | {"student": {"inhibitor_signed": False}}

        def fail(*_):
            raise OSError("no space left on device")

        monkeypatch.setattr(distillation_module, "save_into", fail)
        with pytest.raises(OSError, match="no space"):
            distill(other, tmp_path / "run", overwrite=True)
        after = weights_of(tmp_path / "run")
        assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
        monkeypatch.undo()
        distill(other, tmp_path / "run", resume=True)
        assert InhibiDistilBertModel.from_pretrained(tmp_path / "run").config.inhibitor_signed is False
        assert [p.name for p in tmp_path.iterdir()] == ["run"]

    def test_a_folder_in_use(self, teacher_path, text_path, tmp_path, monkeypatch):
        monkeypatch.setattr(lock, "PATIENCE", 0.0)
        config = settings(teacher_path, text_path, [CALIBRATE])
        first = Distillation(DistillConfig(**config), tmp_path / "run", runtime=RUNTIME, log=lambda _: None)
        for flags in ({"resume": True}, {"overwrite": True}):
            with pytest.raises(ConfigError, match="in use by another run"):
                distill(config, tmp_path / "run", **flags)
        first.run()
        distill(config, tmp_path / "run", resume=True)

    @pytest.mark.parametrize(
        ("change", "named"),
        [
            ({"seed": 1}, "seed"),
            ({"held_out": 0.2}, "held_out, texts"),
            ({"stages": [CALIBRATE, trained("align_attention", learning_rate=2e-3)]}, "stages"),
            ({"layers": [0]}, "layers"),
        ],
    )
    def test_resuming_with_other_settings(self, change, named, teacher_path, text_path, tmp_path):
        config = settings(teacher_path, text_path, [CALIBRATE])
        distill(config, tmp_path / "run")
        before = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*"))
        with pytest.raises(ConfigError, match=rf"began with other settings than this one \({named.split(',')[0]}"):
            distill(config | change, tmp_path / "run", resume=True)
        assert sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*")) == before

    def test_resuming_with_other_texts(self, teacher_path, text_path, tmp_path):
        texts = tmp_path / "texts.txt"
        shutil.copy(text_path, texts)
        config = settings(teacher_path, str(texts), [CALIBRATE])
        distill(config, tmp_path / "run")
        with texts.open("a") as file:
            file.write("\nthe cat sees a dog and the dog sees a cat and the cat likes it .")
        with pytest.raises(ConfigError, match=r"other settings than this one \(texts\)"):
            distill(config, tmp_path / "run", resume=True)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"teacher": "no/such-teacher"}, "cannot load 'no/such-teacher'"),
            ({"text": ["no-such-file.txt"]}, "neither an existing file or folder"),
            ({"layers": "0,7"}, "the teacher has layers 0 to 1"),
            (
                {"stages": [trained("align_attention", lengths=[200], tokens_per_step=200)]},
                "align_attention.lengths: 200 ",
            ),
            (
                {"stages": [{"calibrate": {"lengths": [100000], "tokens_per_length": 100000}}]},
                "calibrate.lengths: 100000",
            ),
            ({"stages": [{"calibrate": {"lengths": [160]}}], "text": ["SHORT"]}, "no text is as long as 160 tokens"),
            ({"teacher": "PLAIN", "segments": "keep"}, "has no segment embeddings to keep"),
            ({"teacher": "NAN"}, "layer_norm_eps"),
            ({"init_from": "QUANTIZED"}, "is quantized, which cannot be trained"),
            ({"teacher_cache": "SHORT"}, "teacher cache .* cannot be a folder: .* is a file"),
            ({"teacher_cache": "SHORT/below"}, "teacher cache .* cannot be a folder: .* is a file"),
            ({"teacher_cache": "TEACHER"}, "is the teacher "),
            ({"teacher_cache": "TEACHER/cache"}, "lies inside the teacher "),
            ({"stages": [trained("masked_lm")]}, "does not have a masked-LM head"),
            ({"stages": [trained("align_context")]}, r"unknown stage 'align_context' \(did you mean 'align_attention'"),
        ],
    )
    def test_nothing_is_deleted_or_made_for_a_run_that_cannot_start(
        self, change, message, chain, odd_inputs, teacher_path, tmp_path
    ):
        """--overwrite with a misspelt teacher once deleted the old run."""
        change = yaml.safe_load(re.sub("[A-Z]{3,}", lambda m: odd_inputs[m[0]], yaml.safe_dump(change)))
        before = sorted(Path(teacher_path).iterdir())
        (tmp_path / "old").mkdir()
        (tmp_path / "old" / "run.yaml").write_text("inhibit: distill")
        for folder, flags in ((tmp_path / "old", {"overwrite": True}), (tmp_path / "new", {})):
            with pytest.raises((ValueError, OSError), match=message):
                distill(chain | change, folder, **flags)
        assert [str(p.relative_to(tmp_path)) for p in sorted(tmp_path.rglob("*"))] == ["old", "old/run.yaml"]
        assert sorted(Path(teacher_path).iterdir()) == before

    def test_another_architecture(self, text_path, tmp_path):
        from transformers import ElectraConfig, ElectraModel

        sizes = {"num_attention_heads": 2, "num_hidden_layers": 1, "hidden_size": 16, "intermediate_size": 16}
        teacher = saved(ElectraModel(ElectraConfig(vocab_size=75, embedding_size=16, **sizes)), tmp_path / "electra")
        with pytest.raises(
            ValueError, match=r"from a 'electra' teacher; supported: \['bert', 'distilbert', 'roberta'\]"
        ):
            distill(settings(teacher, text_path, [CALIBRATE], student_class="inhibidistilbert"), tmp_path / "run")
        assert not (tmp_path / "run").exists()
        said = distill(settings(teacher, text_path, [CALIBRATE]), tmp_path / "run")
        assert "InhibitorElectraModel: 1 of 1 attention modules" in said[1]


def test_masked_lm_trains_head_and_encoder_and_keeps_them_tied(masked_lm_path, text_path, tmp_path):
    distill(settings(masked_lm_path, text_path, [trained("masked_lm")]), tmp_path / "run")
    student = InhibiDistilBertForMaskedLM.from_pretrained(tmp_path / "run")
    start = weights_of(masked_lm_path)
    assert student.vocab_projector.weight is student.distilbert.embeddings.word_embeddings.weight
    assert not torch.equal(student.vocab_projector.weight, start["bert.embeddings.word_embeddings.weight"])
    assert not torch.equal(student.vocab_transform.weight, start["cls.predictions.transform.dense.weight"])
    log = json.loads((tmp_path / "run" / "stages" / "1-masked_lm" / "log.json").read_text())
    for entry in (e for e in log if "loss" in e):
        terms = [entry[f"loss/{name}"] for name in ("soft_targets", "masked_lm", "cosine")]
        assert sum(terms) == pytest.approx(entry["loss"], rel=1e-5)


def test_tensorboard_gets_every_term(teacher_path, text_path, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = settings(teacher_path, text_path, [trained("align_attention")])
    runtime = RUNTIME | {"report_to": "tensorboard"}
    Distillation(DistillConfig(**config), tmp_path / "run", runtime=runtime, log=lambda _: None).run()
    (events,) = (tmp_path / "run").rglob("events.out.tfevents.*")
    reader = EventAccumulator(str(events.parent))
    reader.Reload()
    tags = reader.Tags()["scalars"]
    assert [tag for tag in tags if "attention/layer_" in tag] == [
        "train/loss/attention/layer_0",
        "train/loss/attention/layer_1",
    ]


def test_the_layer_map_is_had_from_the_teacher_s_configuration_alone(chain, tmp_path):
    (tmp_path / "config.json").write_text((Path(chain["teacher"]) / "config.json").read_text())
    assert load_layer_map(DistillConfig(**(chain | {"teacher": str(tmp_path), "layers": [1]}))).teacher_layers == (1,)


def test_the_layer_map_of_a_teacher_that_is_not_there(chain, tmp_path):
    with pytest.raises(ValueError, match=r"cannot load [^\n]*: there is no such folder, and it is no Hub id"):
        load_layer_map(DistillConfig(**(chain | {"teacher": str(tmp_path / "none")})))


def test_this_machine_is_a_source_of_texts(teacher_path, tmp_path, monkeypatch):
    asked = {}

    def english(*, max_texts, seed):
        from tests.distill.tiny import sentences

        asked.update(max_texts=max_texts, seed=seed)
        return sentences(100)

    monkeypatch.setattr(load_data_module, "english_on_this_machine", english)
    config = settings(teacher_path, "this-machine", [CALIBRATE], max_texts=70, seed=3)
    distill(config, tmp_path / "run")
    assert asked == {"max_texts": 70, "seed": 3}


def test_pairs_of_a_row_are_trained_on_where_they_are_asked_for(teacher_path, tmp_path):
    from inhibitor_transformers.tasks import load_pairs, split_held_out
    from tests.distill.tiny import sentences

    texts = sentences(120)
    path = tmp_path / "pairs.csv"
    path.write_text(
        "sentence1,sentence2\n" + "".join(f'"{a}","{b}"\n' for a, b in zip(texts[::2], texts[1::2], strict=True))
    )
    stages = [CALIBRATE, {"align_hidden": {"max_steps": 2, "lengths": [32], "tokens_per_step": 64}}]
    config = DistillConfig(**settings(teacher_path, str(path), stages, row_pairs=True))
    made = Distillation(config, tmp_path / "run", runtime=RUNTIME)
    kept, _ = split_held_out(load_pairs(path))
    assert kept
    assert {text for text in made.data.texts if not isinstance(text, str)} == set(kept)
    made.run()
    config = DistillConfig(**settings(teacher_path, str(path), [CALIBRATE]))
    assert all(isinstance(text, str) for text in Distillation(config, tmp_path / "b", runtime=RUNTIME).data.texts)


def test_held_out_texts_reach_no_stage(teacher_path, text_path, tmp_path):
    from inhibitor_transformers.tasks import load_texts, split_held_out

    config = settings(teacher_path, text_path, [CALIBRATE], held_out=0.3)
    made = Distillation(DistillConfig(**config), tmp_path / "run", runtime=RUNTIME)
    kept, held_out = split_held_out(load_texts(text_path), fraction=0.3)
    assert sorted(made.data.texts) == sorted(kept)
    assert set(made.data.texts).isdisjoint(held_out)
    assert os.path.exists(tmp_path / "run" / "run.yaml")


def test_the_output_may_be_a_string(teacher_path, text_path, tmp_path):
    config = settings(teacher_path, text_path, [CALIBRATE])
    distill(config, str(tmp_path / "run"))
    assert (tmp_path / "run" / "model.safetensors").exists()
