"""`inhibit hardware`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from .console import log
from .console import output as stdout
from .options import Threads, quiet, resolve_model


def hardware(
    model: Annotated[str, typer.Argument(help="An inhibitor encoder: a folder or Hub id.")],
    teacher: Annotated[str, typer.Option(help="The softmax encoder that it comes from: folder, Hub id or 'minilm'.")],
    text: Annotated[
        list[str] | None,
        typer.Option(
            help="Text to calibrate on and to read: file, folder, Hub id, or 'this-machine' (default); repeatable."
        ),
    ] = None,
    bits: Annotated[int, typer.Option(help="Bits of q, k, v and of probabilities: 4, 8 or 16.")] = 8,
    length: Annotated[int, typer.Option(min=8, help="Tokens of the text that is read.")] = 128,
    layers: Annotated[str, typer.Option(help="Layers whose heads are compared, such as 0,2.")] = "0",
    head: Annotated[int, typer.Option(min=0, help="Which head of each layer.")] = 0,
    rows: Annotated[int, typer.Option(min=1, help="Queries that are simulated, spread over the text.")] = 2,
    cells: Annotated[str, typer.Option(help="Cell library: osu018, osu050, or a Liberty file.")] = "osu018",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Also write the rows to this JSON file.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace that file.")] = False,
    threads: Threads = None,
) -> None:
    """Compare a head's circuit with that of softmax: energy, area and period.

    Both are mapped onto standard cells and simulated gate by gate on the model's and its teacher's own numbers. Needs
    the extra `hardware`, and Debian's qflow-tech-osu018 for the cells.
    """
    from ..common.atomic import atomic_write
    from ..hardware import require_tools

    _check_output(output, overwrite=overwrite)
    require_tools(cells)
    from ..hardware.comparison import CIRCUIT_BITS, Comparison, Setting
    from ..hardware.rows import Row, comparison_table
    from ..models.pretrained import load_as_saved, load_tokenizer
    from ..report import print_table
    from ..tasks import load_texts
    from ..tasks.text import THIS_MACHINE

    if bits not in CIRCUIT_BITS:
        raise ValueError(f"--bits must be one of {list(CIRCUIT_BITS)}, got {bits}")
    chosen = _layers(layers)
    quiet(threads)
    comparison = Comparison(
        load_as_saved(model),
        load_as_saved(resolve_model(teacher)),
        load_tokenizer(model),
        load_texts(text or [THIS_MACHINE], max_texts=2000, seed=0),
        head=head,
        rows=rows,
        keys=max(512, length),
    )
    found: list[Row] = []
    for layer in chosen:
        found += comparison.compare([Setting(bits=bits, length=length, layer=layer, cells=cells)])
        log(f"layer {layer} is measured")
        if output is not None:  # after each layer: an interruption loses one
            atomic_write(output, json.dumps([row.as_dict() for row in found], indent=1) + "\n")
    print_table(comparison_table(found), stdout())


def _check_output(output: Path | None, *, overwrite: bool) -> None:
    """Raise ValueError for a file that is there already, unless it may be replaced, and for one that cannot be."""
    if output is None:
        return
    if output.is_dir() or not output.absolute().parent.is_dir():
        raise ValueError(f"--output {output} must be a file in a folder that exists")
    if output.exists() and not overwrite:
        raise ValueError(f"{output} exists: name another file, or replace it with --overwrite")


def _layers(text: str) -> list[int]:
    """Raises ValueError unless `text` is numbers with commas between them."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"--layers must be numbers such as 0,2, got {text!r}") from None
