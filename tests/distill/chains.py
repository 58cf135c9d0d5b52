"""Settings of short runs of the stages, and how tests run them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from inhibitor_transformers.distill import Distillation, DistillConfig

CALIBRATE = {"calibrate": {"lengths": [16, 32], "tokens_per_length": 128}}
TRAINED = {"max_steps": 6, "tokens_per_step": 128, "lengths": [16, 32], "save_steps": 2, "logging_steps": 2}
RUNTIME = {"use_cpu": True, "disable_tqdm": True}


def trained(name: str, **settings: Any) -> dict[str, Any]:
    return {name: TRAINED | settings}


def settings(teacher: str, text: str, stages: list[dict[str, Any]], **others: Any) -> dict[str, Any]:
    return {"teacher": teacher, "text": [text], "stages": stages} | others


def distill(config: dict[str, Any], output: Path, **flags: Any) -> list[str]:
    """Run it; returns what it said."""
    said: list[str] = []
    Distillation(DistillConfig(**config), output, runtime=RUNTIME, log=said.append, **flags).run()
    return said
