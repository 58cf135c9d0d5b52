"""`inhibit evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from .options import Data, Device, Threads, quiet, resolve_model, torch_device

ZERO_SHOT = "sts-zero-shot"
AGREEMENT = "agreement"


def evaluate(
    models: Annotated[list[str], typer.Argument(help="Models to put side by side: folders, Hub ids or 'minilm'.")],
    task: Annotated[
        str,
        typer.Option(
            "--task",
            help=f"A task name as for finetune (models with a head), '{ZERO_SHOT}' (STS-B by cosine similarity), or "
            f"'{AGREEMENT}' (embeddings against those of --teacher on held-out texts of --text).",
        ),
    ],
    data: Data = None,
    teacher: Annotated[str | None, typer.Option(help="Teacher, for its row and for agreement.")] = None,
    text: Annotated[
        str, typer.Option(help="Texts for agreement: file, folder, Hub id or 'this-machine'.")
    ] = "this-machine",
    lengths: Annotated[str, typer.Option(help="Lengths in tokens for agreement.")] = "32,64,128,256",
    max_length: Annotated[int, typer.Option(help="Tokens that a text (pair) is cut at.")] = 128,
    max_eval_examples: Annotated[int | None, typer.Option(help="Evaluate on the first so many examples.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Also write the table as JSON to this file.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")] = False,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Print one table: models side by side, with their speed; the teacher, if given, first."""
    from ..measure import compare
    from ..measure.score_table import print_scores, write_scores
    from ..tasks import load_task

    if output is not None and output.exists() and not overwrite:
        raise ValueError(f"{output} exists; add --overwrite to replace it")
    if task == AGREEMENT and teacher is None:
        raise ValueError("agreement is measured against a teacher; name it with --teacher")
    quiet(threads)
    sources = {name: resolve_model(name) for name in ([teacher] if teacher else []) + models}
    where = torch_device(device)
    if task == AGREEMENT:
        held_out = _held_out(text)
        rows = compare.by_agreement(sources, held_out, [int(n) for n in lengths.split(",")], where)
    elif task == ZERO_SHOT:
        pairs = load_task("stsb", data, max_eval_examples=max_eval_examples).evaluation["validation"]
        rows = compare.by_zero_shot(sources, pairs[:], where, max_length=max_length)
    else:
        rows = compare.by_task(sources, load_task(task, data, max_eval_examples=max_eval_examples), where, max_length)
    print_scores(task, rows, Console())
    if output is not None:
        write_scores(output, task, rows)


def _held_out(source: str) -> list[str]:
    """The texts of a source that no distillation with the default seed and share has seen."""
    from ..tasks import english_on_this_machine, load_texts, split_held_out

    texts = english_on_this_machine() if source == "this-machine" else load_texts(source)
    return split_held_out(texts)[1]
