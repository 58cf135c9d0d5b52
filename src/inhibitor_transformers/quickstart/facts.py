"""What a report says of its run in words, and the curves of its loss."""

from __future__ import annotations

import json
from typing import Any

import torch
import transformers

from ..attention.dispatch import serving_engine
from ..distill.distillation import Distillation
from ..distill.stages.base import LOG_FILE
from ..distill.stages.run import stage_folder

NOTES = ["Trained for minutes on technical English; docs/results.md says what a longer run on better text reaches."]
_ALIGNMENT = "align_attention"
_LAYER_LOSS = "loss/attention/layer_"


def facts(run: Distillation, held_out: int) -> list[tuple[str, str]]:
    """Names and values: text, number of held-out texts, training, versions, and what computed it."""
    steps = max(entry["step"] for entry in _log(run))
    tokens = run.config.stages[_index(run)][_ALIGNMENT]["tokens_per_step"]
    return [
        ("text", "English prose found on this machine (Python's documentation, docstrings, package descriptions)"),
        ("held-out texts", f"{held_out}, never trained on"),
        ("alignment", f"{steps} steps of at most {tokens} tokens"),
        ("engine", serving_engine(run.teacher.model.device)),
        ("threads", str(torch.get_num_threads())),
        ("torch", torch.__version__),
        ("transformers", transformers.__version__),
        ("seed", str(run.config.seed)),
    ]


def loss_curves(run: Distillation) -> dict[str, list[tuple[int, float]]]:
    """Layer -> (step, loss) of its attention outputs."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for entry in _log(run):
        for key, value in entry.items():
            if key.startswith(_LAYER_LOSS):
                curves.setdefault(f"layer {key.removeprefix(_LAYER_LOSS)}", []).append((entry["step"], float(value)))
    return curves


def model_name(source: str) -> str:
    """How the report calls the teacher: the quickstart's own is a folder inside a package."""
    return "all-MiniLM-L6-v2" if "minilm" in source.lower() else source


def _log(run: Distillation) -> list[dict[str, Any]]:
    """The log of the alignment, an entry per logged step."""
    file = stage_folder(run.output, _index(run), _ALIGNMENT) / LOG_FILE
    entries: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))
    return entries


def _index(run: Distillation) -> int:
    return run.config.stage_names.index(_ALIGNMENT)
