"""Measures a teacher that was just made, and keeps the result in its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from inhibitor_transformers.evaluation.head_score import score_head


def write_metric(
    folder: Path, model: PreTrainedModel, preprocessor: Any, data: Path, split: str, *, length: int = 256
) -> None:
    """Print what `score_head` finds on a split, and write it into FOLDER/metric.txt."""
    measure = score_head(model.eval(), preprocessor, data, split=split, length=length)
    line = f"{measure.name} {measure.value:.4f} on {data.name}, {split}"
    print(line)
    (folder / "metric.txt").write_text(line + "\n", encoding="utf-8")
