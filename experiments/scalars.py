"""What the scalars of a student's heads became: a table per layer, and a plot of every head.

python experiments/scalars.py runs/minilm --plot docs/assets/scalars.svg
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
from transformers import PreTrainedModel

from inhibitor_transformers.cli.options import quiet
from inhibitor_transformers.models.pretrained import load_pretrained
from inhibitor_transformers.report import Table, markdown_table

SYMBOLS = {"gamma": "γ", "delta": "δ", "eta": "η", "length_exponent": "ρ"}


def scalars(student: PreTrainedModel) -> dict[str, list[list[float]]]:
    """Name of a scalar -> its values per layer and head."""
    layers = [block.attention.inhibitor for block in student.base_model.transformer.layer]
    return {name: [getattr(layer, name).tolist() for layer in layers] for name in SYMBOLS}


def table(values: dict[str, list[list[float]]]) -> Table:
    """Mean and range over the heads of each layer."""
    rows = [
        [f"layer {i}", *(f"{sum(h) / len(h):.2f} ({min(h):.2f} … {max(h):.2f})" for h in heads)]
        for i, heads in enumerate(zip(*values.values(), strict=True))
    ]
    return Table("Scalars: mean over the heads (least … greatest)", ["", *SYMBOLS.values()], rows)


def plot(values: dict[str, list[list[float]]], file: Path) -> None:
    """One panel per scalar: a column of points per layer, a point per head."""
    figure, panels = plt.subplots(1, len(values), figsize=(3 * len(values), 2.6), constrained_layout=True)
    for panel, (name, layers) in zip(panels, values.items(), strict=True):
        for i, heads in enumerate(layers):
            panel.plot([i] * len(heads), heads, "o", markersize=3, alpha=0.6, color="tab:blue")
        panel.set(title=SYMBOLS[name], xlabel="layer")
    figure.savefig(file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("student")
    parser.add_argument("--plot", type=Path)
    given = parser.parse_args()
    quiet()
    values = scalars(load_pretrained(given.student))
    print(markdown_table(table(values)))
    if given.plot:
        plot(values, given.plot)


if __name__ == "__main__":
    main()
