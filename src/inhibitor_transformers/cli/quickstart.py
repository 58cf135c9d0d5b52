"""`inhibit quickstart`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .console import log
from .console import output as stdout
from .options import MINILM, Device, Overwrite, Seed, Threads, choose_device, quiet, resolve_model


def quickstart(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for student and report.")] = Path("quickstart"),
    steps: Annotated[
        int, typer.Option(min=1, help="Optimizer steps that align attention outputs with the teacher's.")
    ] = 250,
    overwrite: Overwrite = False,
    seed: Seed = 0,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Distill all-MiniLM-L6-v2 in minutes and write a report.

    It trains on text found on this machine, and needs no GPU and no download.
    """
    teacher = resolve_model(MINILM)
    runtime = choose_device(device)
    quiet(threads)
    from ..quickstart import run_quickstart
    from ..report import print_summary

    report = run_quickstart(teacher, output, steps=steps, seed=seed, overwrite=overwrite, runtime=runtime, log=log)
    print_summary(report, stdout())
    log(f"student saved in {output}; report: {output / 'report.md'} and {output / 'report.html'}")
