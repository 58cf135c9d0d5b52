"""What the experiments on attention share: their options, the teacher, and its data."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import AutoModel

from inhibitor_transformers.cli.options import quiet, resolve_model
from inhibitor_transformers.distill.teacher.teacher import Teacher
from inhibitor_transformers.models.pretrained import load_tokenizer


def parser(description: str | None, *, steps: int | None = None) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--data", type=Path, default=Path("../shared/data"))
    made.add_argument("--threads", type=int)
    if steps:
        made.add_argument("--steps", type=int, default=steps)
    return made


def minilm(threads: int | None) -> tuple[Any, Teacher]:
    """The tokenizer of `minilm` and the model as a teacher, in a quiet process with so many threads."""
    quiet(threads)
    source = resolve_model("minilm")
    return load_tokenizer(source), Teacher(AutoModel.from_pretrained(source))


def split_heads(x: Tensor, count: int) -> Tensor:
    """(B, N, H·D) to (B, H, N, D)."""
    return x.unflatten(-1, (count, -1)).transpose(1, 2)


def variation(states: Tensor) -> Tensor:
    """Σ|x − mean|² of (M, D): what differs between tokens."""
    return (states - states.mean(0)).square().sum()


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    """Squared error over the variation of `theirs`; both (M, D)."""
    return float((ours - theirs).square().sum() / variation(theirs))


def inner(a: Tensor, b: Tensor) -> Tensor:
    """Inner product per head: two of (B, H, N, D) to (H,)."""
    return (a * b).sum((0, 2, 3))
