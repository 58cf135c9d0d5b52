"""The experiments measure what they say; what they find is not asserted here."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import torch

from inhibitor_transformers.common.settings import build
from inhibitor_transformers.distill import DistillConfig
from inhibitor_transformers.distill.data import exact_windows, pad_windows
from inhibitor_transformers.distill.stages.calibration import calibrate
from inhibitor_transformers.models.conversion import Options
from tests.distill.any_model import saved_teacher
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


def test_scalars_of_a_layer_are_those_of_its_only_head(script: Script) -> None:
    tokenizer, texts = bert_tokenizer(), sentences(40)
    batches = [pad_windows(exact_windows(texts, tokenizer, n, 4), tokenizer) for n in (8, 16)]
    ours, teacher, layer_map = pair(num_attention_heads=1)
    theirs, _, _ = pair(num_attention_heads=1)
    with torch.no_grad():
        script("calibration").calibrate_layers(ours, teacher, batches)
    calibrate(theirs, teacher, layer_map, batches)
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, msg=name)


def test_scalars_by_layer_and_head(script: Script, tmp_path: Path) -> None:
    scalars, student = script("scalars"), tiny.tiny_student()
    inhibitor = student.transformer.layer[1].attention.inhibitor
    with torch.no_grad():
        inhibitor.gamma.copy_(torch.tensor([1.0, 3.0]))
    values = scalars.scalars(student)
    assert scalars.table(values).rows[1][:2] == ["layer 1", "2.00 (1.00 … 3.00)"]
    scalars.plot(values, tmp_path / "plot.svg")
    assert (tmp_path / "plot.svg").stat().st_size > 0


def test_unknown_rows_are_refused(
    script: Script, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr("sys.argv", ["ablations.py", "rho 7"])
    with pytest.raises(SystemExit):
        script("ablations").main()
    assert "unknown rows ['rho 7']" in capsys.readouterr().err


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


def test_forms_are_measured(script: Script, tmp_path: Path) -> None:
    forms = script("forms")
    assert all(Options(**form) for form in forms.FORMS.values())
    teacher = saved_teacher("llama", tmp_path / "teacher")
    (tmp_path / "texts").mkdir()
    for split in SPLITS:
        pyarrow.parquet.write_table(pyarrow.table({"text": sentences(60)}), tmp_path / "texts" / f"{split}.parquet")
    stages = [
        {"calibrate": {"lengths": [8], "tokens_per_length": 64}},
        {"align_attention": {"max_steps": 4, "lengths": [8], "tokens_per_step": 64, "use_cpu": True}},
    ]
    data = {"text": [str(tmp_path / "texts")]}
    score = partial(forms.score_head, preprocessor=forms.load_preprocessor(teacher), source=tmp_path / "texts")
    error, calibrated, aligned = forms.measure(teacher, data, forms.PAPER, stages, score)
    assert 0 < error < 1.5
    assert calibrated != aligned
