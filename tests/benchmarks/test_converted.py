"""The benchmark of whole converted models runs on tiny ones, and times none that computes something else."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import ViTConfig, ViTForImageClassification

from inhibitor_transformers import convert
from inhibitor_transformers.attention import direct, scalars
from inhibitor_transformers.attention.cpu import library
from tests.benchmarks.test_benchmarks import NUMBER, tables
from tests.scripts import Script

if library.unavailable():
    pytest.skip(f"engine cpu: {library.unavailable()}", allow_module_level=True)

QUICK = ["--threads", "1", "--seconds", "0", "--rounds", "1"]


@pytest.fixture
def converted(script: Script, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script with tiny models and short texts."""
    module = script("converted")
    monkeypatch.setattr(module, "require_passing_tests", lambda: None)
    monkeypatch.setattr(module, "peak", lambda *_: "1.0")
    for name, value in (("LONG", 64), ("NEW", 2), ("PROMPT", 4), ("VOCABULARY", 50)):
        monkeypatch.setattr(module, name, value)
    small = ViTConfig(image_size=8, patch_size=4, hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    tiny = {
        "gpt2": partial(module.gpt2, 1, 16, 2),
        "llama": module.llama,
        "gpt2 12 × 768": partial(module.gpt2, 2, 16, 2),
        "vit": lambda: ViTForImageClassification(small),
        "vit 12 × 768": lambda: ViTForImageClassification(small),
    }
    monkeypatch.setattr(module, "BUILD", tiny)
    return module


def test_every_case(converted: Any, tmp_path: Path) -> None:
    output = tmp_path / "table.md"
    converted.main([*QUICK, "--output", str(output)])
    (table,) = tables(output)
    assert [row[1] for row in table[1:]] == [case.model for case in sorted(converted.CASES, key=by_model(converted))]
    assert all(NUMBER.match(cell) for row in table[1:] for cell in row[2:])


def by_model(converted: Any) -> Any:
    order = list(dict.fromkeys(case.model for case in converted.CASES))
    return lambda case: order.index(case.model)


def test_a_pair_of_folders(converted: Any, tmp_path: Path) -> None:
    teacher = converted.llama()
    teacher.save_pretrained(tmp_path / "teacher")
    convert(teacher, {"input_ids": torch.ones(1, 4, dtype=torch.int64)}).save_pretrained(tmp_path / "student")
    pair = ["--pair", "llama", str(tmp_path / "teacher"), str(tmp_path / "student")]
    output = tmp_path / "table.md"
    converted.main([*QUICK, *pair, "--cases", "prefill", "--output", str(output)])
    (table,) = tables(output)
    assert [row[1] for row in table[1:]] == ["llama", "gpt2 12 × 768"]
    with pytest.raises(SystemExit):
        converted.main([*QUICK, "--pair", "bert", "a", "b"])


def test_the_peak_is_that_of_the_side(converted: Any, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    asked: list[str] = []

    def peak_of(call: Any) -> int:
        call()
        return 1 << 20

    monkeypatch.setattr(converted, "peak_of", peak_of)
    monkeypatch.setattr(converted, "call", lambda model, *_: asked.append(type(model).__name__))
    for side in ("softmax", "inhibitor"):
        converted.main(["--peak", "gpt2", "generate", "1", side])
    assert capsys.readouterr().out.split() == [str(1 << 20)] * 2
    assert asked == ["GPT2LMHeadModel", "InhibitorGPT2LMHeadModel"]


def test_a_model_that_computes_something_else_is_not_timed(converted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scalars, "attend_directly", lambda *args: 1.1 * direct.attend_directly(*args))
    with pytest.raises(SystemExit, match=r"inhibitor, .* computes something else"):
        converted.main([*QUICK, "--cases", "images"])
