"""Draws what `benchmarks/hardware.py` wrote: softmax over inhibitor, by bits.

    python benchmarks/hardware_figure.py hardware.json hardware.svg

For 128 tokens and heads as they are: means of layers 0 and 2, with the two layers as marks.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot

BITS = (4, 8, 16)
MEASURES = {"logic": "energy, logic", "registers": "energy with registers", "area": "area"}
COLORS = ("#4c78a8", "#f58518", "#72b7b2")


def ratios(rows: list[dict[str, Any]], measure: str, bits: int) -> list[float]:
    """Of layers 0 and 2."""
    place = {"measure": measure, "bits": bits, "n": 128, "cells": "osu018", "variant": "own", "part": "head"}
    narrow = min(row["d"] for row in rows)
    return [
        row["ratio"]
        for row in rows
        if row["layer"] in (0, 2) and row["d"] == narrow and all(row[name] == value for name, value in place.items())
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path)
    parser.add_argument("figure", type=Path, help="a new SVG file")
    given = parser.parse_args()
    if given.figure.exists():
        raise SystemExit(f"{given.figure} exists; name a new file")
    rows = json.loads(given.rows.read_text(encoding="utf-8"))
    figure, axes = pyplot.subplots(figsize=(6.4, 3.2), layout="constrained")
    for place, (measure, label) in enumerate(MEASURES.items()):
        for at, bits in enumerate(BITS):
            found = ratios(rows, measure, bits)
            x, mean = at + (place - 1) * 0.26, sum(found) / len(found)
            axes.bar(x, mean, 0.24, color=COLORS[place], label=label if at == 0 else None)
            axes.plot([x] * len(found), found, "k_", markersize=7)
            axes.annotate(f"{mean:.1f}", (x, max(found)), ha="center", va="bottom", fontsize=8)
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set_xticks(range(len(BITS)), [f"{bits} bits" for bits in BITS])
    axes.set_ylabel("softmax / inhibitor")
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(given.figure, metadata={"Date": None})


if __name__ == "__main__":
    main()
