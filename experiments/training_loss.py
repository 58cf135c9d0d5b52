"""The training loss of fine-tunings by epoch, mean over their seeds, from the logs of a study.

python experiments/training_loss.py runs/tasks/cola/control/lr-0.0001 runs/tasks/cola/student/lr-0.0001
"""

from __future__ import annotations

import argparse
import math
import re
from pathlib import Path
from statistics import mean

from inhibitor_transformers.measure.report import Table, markdown_table

STEP = re.compile(r"\{'loss': '([\d.e-]+)'.*'epoch': '([\d.]+)'\}")


def by_epoch(folder: Path) -> dict[int, float]:
    """Epoch, from 1, to the mean over seeds of its mean logged loss."""
    seeds: dict[int, list[float]] = {}
    for file in sorted(folder.glob("seed-*.log")):
        losses: dict[int, list[float]] = {}
        for loss, epoch in STEP.findall(file.read_text(encoding="utf-8")):
            losses.setdefault(math.ceil(float(epoch)), []).append(float(loss))
        for number, values in losses.items():
            seeds.setdefault(number, []).append(mean(values))
    return {number: mean(values) for number, values in seeds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "folders", nargs="+", type=Path, help="of one model and learning rate, with a log for each seed"
    )
    found = {str(folder): by_epoch(folder) for folder in parser.parse_args().folders}
    epochs = sorted({number for losses in found.values() for number in losses})
    rows = [
        [name, *(f"{losses[number]:.3f}" if number in losses else "-" for number in epochs)]
        for name, losses in found.items()
    ]
    print(markdown_table(Table("Training loss by epoch", ["", *map(str, epochs)], rows)))


if __name__ == "__main__":
    main()
