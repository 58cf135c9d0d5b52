"""Whatever library finds a disk full, it is an OSError of one line; other errors stay what they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from inhibitor_transformers.models.saving import save_model, writing
from tests.full_disk import no_file_above
from tests.models.tiny import save_tokenizer, tiny_student

WRITERS: dict[str, Callable[[Path], object]] = {
    "safetensors": lambda folder: tiny_student().save_pretrained(folder),
    "tokenizers": lambda folder: save_tokenizer(folder),
    "torch": lambda folder: torch.save(torch.ones(10_000), folder / "state.pt"),
    "python": lambda folder: (folder / "text.txt").write_text("a" * 10_000),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_an_os_error_that_names_the_path(name: str, tmp_path: Path) -> None:
    with no_file_above(500), pytest.raises(OSError, match=rf"^cannot write {tmp_path}: [^\n]+$"), writing(tmp_path):
        WRITERS[name](tmp_path)


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), KeyError("a"), TypeError("no"), AssertionError()])
def test_other_errors_are_left_alone(error: Exception, tmp_path: Path) -> None:
    with pytest.raises(type(error)) as raised, writing(tmp_path):
        raise error
    assert raised.value is error


def test_model_and_tokenizer(tmp_path: Path) -> None:
    save_model(tmp_path / "a", tiny_student(), save_tokenizer(tmp_path))
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {p.name for p in (tmp_path / "a").iterdir()}
