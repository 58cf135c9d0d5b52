"""`inhibit evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .console import log
from .console import output as stdout
from .options import (
    Data,
    Device,
    LabelColumn,
    MaxEvalExamples,
    SeedOfData,
    TextColumns,
    Threads,
    quiet,
    resolve_model,
    torch_device,
)

ZERO_SHOT = "sts-zero-shot"
AGREEMENT = "agreement"
HEAD = "head"
NEXT_TOKENS = "next-tokens"
_NEW_TOKENS = 64
_PROMPTS = 32
_SHORTEST = 8  # tokens; less says little about a text


def evaluate(
    models: Annotated[
        list[str], typer.Argument(help="Models to compare: folders, Hub ids or 'minilm' (all-MiniLM-L6-v2).")
    ],
    task: Annotated[
        str,
        typer.Option(
            "--task",
            help=f"A task of finetune (for models with a head), '{ZERO_SHOT}' (STS-B by cosine similarity), "
            f"'{AGREEMENT}' (cosine to the embeddings of --teacher, on held-out texts of --text), '{HEAD}' (what a "
            "model's own head is for, on --data: perplexity, hidden tokens, images, recordings), or "
            f"'{NEXT_TOKENS}' (how often a decoder ranks first what --teacher writes).",
        ),
    ],
    data: Data = None,
    teacher: Annotated[
        str | None, typer.Option(help="Teacher: its scores come first in the table; agreement needs it.")
    ] = None,
    text: Annotated[
        str, typer.Option(help="Texts for agreement: file, folder, Hub id or 'this-machine' (English that is on it).")
    ] = "this-machine",
    lengths: Annotated[str, typer.Option(help="Text lengths for agreement, in tokens.")] = "32,64,128,256",
    max_length: Annotated[
        int, typer.Option(help="Truncate a text (or pair) to so many tokens; of decoders, the window.")
    ] = 128,
    split: Annotated[str, typer.Option(help=f"Split of --data that '{HEAD}' and '{NEXT_TOKENS}' read.")] = "validation",
    max_eval_examples: MaxEvalExamples = None,
    text_columns: TextColumns = None,
    label_column: LabelColumn = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Also write the scores to this JSON file.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the scores in that file.")] = False,
    card: Annotated[
        Path | None, typer.Option(help="Also write the table into the model card (README.md) of this model.")
    ] = None,
    seed: SeedOfData = 0,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Score models on a task and measure their speed."""
    from ..common.inputs import require_apart
    from ..evaluation import compare
    from ..evaluation.tables import print_scores, require_free_for_scores, score_table, write_scores
    from ..report import require_own_card, write_card
    from ..tasks import load_task

    if output is not None:
        require_apart(output, {"model": models, "teacher": teacher, "data": data, "text": text})
        require_free_for_scores(output, overwrite=overwrite)
    if max_length < _SHORTEST:
        raise ValueError(f"--max-length must be at least {_SHORTEST} tokens, got {max_length}")
    if task in (AGREEMENT, NEXT_TOKENS) and teacher is None:
        raise ValueError(f"{task} is measured against a teacher; name it with --teacher")
    if task in (HEAD, NEXT_TOKENS) and data is None:
        raise ValueError(f"{task} is measured on data; name a folder or file with --data")
    if card is not None:
        require_own_card(card, models, section=task)
    quiet(threads)
    sources = {name: resolve_model(name) for name in ([teacher] if teacher else []) + models}
    where = torch_device(device)
    if task == AGREEMENT:
        rows = compare.by_agreement(sources, _held_out(text, seed), _lengths(lengths), where)
    elif task in (HEAD, NEXT_TOKENS):
        assert data is not None
        options: dict[str, Any] = {"split": split, "length": max_length, "seed": seed}
        if task == HEAD:
            rows = compare.by_head(sources, data, where, max_examples=max_eval_examples, **options)
        else:
            prompts = max_eval_examples or _PROMPTS
            rows = compare.by_next_tokens(sources, data, where, new_tokens=_NEW_TOKENS, max_examples=prompts, **options)
    elif task == ZERO_SHOT:
        loaded = load_task("stsb", data, max_eval_examples=max_eval_examples, seed=seed)
        for note in loaded.notes:
            log(note)
        pairs = next(iter(loaded.evaluation.values()))
        rows = compare.by_zero_shot(sources, pairs[:], where, max_length=max_length)
    else:
        loaded = load_task(
            task,
            data,
            seed=seed,
            max_eval_examples=max_eval_examples,
            text_columns=text_columns,
            label_column=label_column,
        )
        for note in loaded.notes:
            log(note)
        rows = compare.by_task(sources, loaded, where, max_length, log)
    print_scores(task, rows, stdout())
    if output is not None:
        write_scores(output, task, rows)
    if card is not None:
        log(f"table written to {write_card(card, [score_table(task, rows)], section=task)}")


def _lengths(listed: str) -> list[int]:
    try:
        lengths = [int(part) for part in listed.split(",")]
    except ValueError:
        raise ValueError(f"--lengths must be whole numbers, such as 32,64, got {listed!r}") from None
    if min(lengths) < _SHORTEST:
        raise ValueError(f"--lengths must be at least {_SHORTEST} tokens each, got {listed!r}")
    return lengths


def _held_out(source: str, seed: int) -> list[str]:
    """The texts of a source that no distillation has seen."""
    from ..tasks import english_on_this_machine, load_texts, split_held_out
    from ..tasks.text import THIS_MACHINE

    texts = english_on_this_machine(seed=seed) if source == THIS_MACHINE else load_texts(source, seed=seed)
    _, held_out = split_held_out(texts)
    return held_out
