"""`inhibit quickstart`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .console import output as stdout
from .console import say
from .options import MINILM, Device, Overwrite, Seed, Threads, choose_device, quiet, resolve_model


def quickstart(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for student and report.")] = Path("quickstart"),
    steps: Annotated[int, typer.Option(min=1, help="Steps of context alignment.")] = 250,
    overwrite: Overwrite = False,
    seed: Seed = 0,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Distil all-MiniLM-L6-v2 into an inhibitor encoder on text that is on this machine: minutes on two cores."""
    teacher = resolve_model(MINILM)
    runtime = choose_device(device)
    quiet(threads)
    from ..distill.quickstart import run_quickstart
    from ..measure.report import print_summary

    report = run_quickstart(teacher, output, steps=steps, seed=seed, overwrite=overwrite, runtime=runtime, say=say)
    print_summary(report, stdout())
    say(f"student saved in {output}; report: {output / 'report.md'} and {output / 'report.html'}")
