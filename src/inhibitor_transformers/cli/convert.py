"""`inhibit convert`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .distill import run_distillation
from .options import Device, Overwrite, Seed, Threads


def convert(
    teacher: Annotated[str, typer.Argument(help="DistilBERT, BERT or RoBERTa: a folder, a Hub id, or 'minilm'.")],
    output: Annotated[Path, typer.Argument(help="Folder for the student.")],
    layers: Annotated[str, typer.Option(help='"all", "every 2nd", "last 3", "first 3" or "0,2,4".')] = "all",
    text: Annotated[
        list[str] | None,
        typer.Option(help="Texts to calibrate on: file, folder, Hub id, or 'this-machine'; repeatable."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show which layer comes from where.")] = False,
    overwrite: Overwrite = False,
    seed: Seed = 0,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Turn a teacher into a calibrated inhibitor student, without training."""
    settings = {
        "teacher": teacher,
        "layers": layers,
        "text": text or ["this-machine"],
        "max_texts": 2000,
        "seed": seed,
        "stages": [{"calibrate": {}}],
    }
    run_distillation(settings, output, dry_run=dry_run, overwrite=overwrite, device=device, threads=threads)
