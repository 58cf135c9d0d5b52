"""Which texts of a source a run takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from inhibitor_transformers.distill import DistillConfig
from inhibitor_transformers.distill.load_data import load_run_data
from tests.distill.tiny import bert_tokenizer
from tests.models.conversion.zoo import teacher

CHAINS = [letter * length for letter in "ACDEFGHIKL" for length in range(30, 40)]


def test_sequences_without_spaces(tmp_path: Path) -> None:
    (tmp_path / "chains.txt").write_text("\n".join(CHAINS), encoding="utf-8")
    settings = {"teacher": "t", "stages": [{"calibrate": {}}], "text": [str(tmp_path / "chains.txt")]}
    with pytest.raises(ValueError, match="no text of at least 5 words"):
        load_run_data(DistillConfig(**settings), bert_tokenizer(), teacher("Bert"))
    found: Any = load_run_data(DistillConfig(**settings, min_words=1), bert_tokenizer(), teacher("Bert"))
    assert set(found.texts) <= set(CHAINS)
    assert len(found.texts) >= 70
