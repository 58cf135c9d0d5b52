"""Compares a head of inhibitor attention with one of softmax on standard cells: energy, area, period.

    python benchmarks/hardware.py --student runs/minilm --text DATA/wikitext-2 DATA/imdb --json FILE [--quick]

Both heads are mapped by the same recipes and simulated gate by gate, on the numbers of the student and of its teacher
for the same text. A netlist that computes anything but its model ends the benchmark. Rows: {cells, variant, part,
layer, bits, n, d, measure, softmax, inhibitor, ratio}; see `hardware.rows.Row`. With --quick: 8 bits, 128 tokens,
layers 0 and 2. Needs the extra `hardware` and Debian's qflow-tech-osu018 (all of it: qflow-tech-osu050 too).
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

from report import machine, progress

from inhibitor_transformers.cli.options import quiet, resolve_model
from inhibitor_transformers.common.atomic import atomic_write
from inhibitor_transformers.hardware import require_tools
from inhibitor_transformers.hardware.comparison import Comparison, Part, Setting
from inhibitor_transformers.hardware.rows import Row, comparison_table
from inhibitor_transformers.models.pretrained import load_as_saved, load_tokenizer
from inhibitor_transformers.report import markdown_table
from inhibitor_transformers.tasks import load_texts

BASE = Setting()
LAYERS = (0, 2)


def settings(layers: int, *, quick: bool) -> list[Setting]:
    """8 bits, 128 tokens, all layers; and for two layers one change at a time."""
    if quick:
        return [replace(BASE, layer=layer) for layer in LAYERS]
    changes = [
        *({"length": n} for n in (64, 512)),
        *({"bits": b} for b in (4, 16)),
        {"doubled": True},
        {"cells": "osu050"},
        {"variant": "same operands"},
        {"variant": "registers in front"},
    ]
    every = [replace(BASE, layer=layer) for layer in range(layers)]
    changed = [replace(BASE, layer=layer, **change) for change in changes for layer in LAYERS]  # type: ignore[arg-type]
    parts: tuple[Part, ...] = ("scores", "outputs")
    elements = [replace(BASE, layer=layer, part=part) for part in parts for layer in LAYERS]
    return every + changed + elements + [replace(BASE, bits=bits, part=part) for part in parts for bits in (4, 16)]


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    if options.json.exists():
        raise SystemExit(f"{options.json} exists; name a new file")
    quiet(options.threads)
    student = load_as_saved(options.student)
    chosen = settings(student.config.n_layers, quick=options.quick)
    for cells in {setting.cells for setting in chosen}:
        require_tools(cells)
    comparison = Comparison(
        student,
        load_as_saved(resolve_model(options.teacher)),
        load_tokenizer(options.student),
        load_texts(options.text, max_texts=2000, seed=0),
        head=options.head,
        rows=options.rows,
    )
    found: list[Row] = []
    for setting in chosen:
        progress(str(setting))
        found += comparison.compare([setting])
        atomic_write(options.json, json.dumps([row.as_dict() for row in found], indent=1) + "\n")  # what is done stays
    print(machine())
    print(markdown_table(comparison_table(found)))


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--student", required=True, help="an inhibitor encoder: a folder or Hub id")
    parser.add_argument("--teacher", default="minilm", help="the softmax encoder that it comes from")
    parser.add_argument("--text", nargs="+", required=True, help="to calibrate on and to read")
    parser.add_argument("--json", type=Path, required=True, help="a new file for the rows")
    parser.add_argument("--head", type=int, default=0, help="which head of each layer")
    parser.add_argument("--rows", type=int, default=2, help="queries that are simulated")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--threads", type=int)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
