"""What the examples that embed texts print, and what the model gives."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from tests.conftest import REPOSITORY

TEXTS = ["the old cat sees a bird", "a dog", "the small fish sleeps and hears the " + 20 * "old cat and dog "]


def run(example: str, *arguments: str, with_package: bool = False) -> subprocess.CompletedProcess[str]:
    """Run an example in a process that has no torch, and this package only if wanted."""
    file = REPOSITORY / "examples" / example
    absent = [] if with_package else ["inhibitor_transformers"]
    code = f"""
import runpy, sys
for name in ("torch", "transformers", *{absent!r}):
    sys.modules[name] = None  # importing it raises ImportError
sys.argv = {[example, *arguments]!r}
runpy.run_path({str(file)!r}, run_name="__main__")
"""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)


@torch.no_grad()
def require_similarities(shown: str, model: Any, source: str | Path) -> None:
    """Compare what an example printed for TEXTS with the model of the folder `source`."""
    found = {tuple(line[8:].split("' '")): float(line[:6]) for line in shown.splitlines()}
    batch = AutoTokenizer.from_pretrained(source)(
        TEXTS, padding=True, truncation=True, max_length=48, return_tensors="pt"
    )
    hidden = model(**batch).last_hidden_state
    mask = batch["attention_mask"][..., None]
    mean = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1))
    pairs = [(0, 1), (0, 2), (1, 2)]
    assert list(found) == [(f"'{TEXTS[i]}", f"{TEXTS[j]}'") for i, j in pairs]
    assert list(found.values()) == pytest.approx([float(mean[i] @ mean[j]) for i, j in pairs], abs=1e-3)
