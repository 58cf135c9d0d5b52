"""Cuts the training examples of GLUE tasks into fewer to train on and thousands to be judged by.

python experiments/larger_validation.py runs/larger-validation

A validation split of a thousand examples cannot tell one point of CoLA. The folder that is written is data for
`inhibit finetune` and `inhibit study`; its scores compare models with each other only, never with published ones.
"""

from __future__ import annotations

from pathlib import Path

import common
import numpy as np
import pyarrow.parquet as parquet

from inhibitor_transformers.tasks.folders import split_files

# Examples to train on, and to be judged by.
SIZES = {"sst2": (7112, 8000), "cola": (5000, 3551), "mrpc": (2400, 1268), "stsb": (3900, 1849)}
SEED = 5


def cut(task: str, data: Path, output: Path) -> None:
    """Write OUTPUT/task/train.parquet and validation.parquet. Raises FileExistsError rather than overwrite."""
    table = parquet.read_table(split_files(data / "glue" / task, "train"))
    trained, judged = SIZES[task]
    order = np.random.default_rng(SEED).permutation(len(table))
    folder = output / task
    folder.mkdir(parents=True)
    for split, chosen in (("train", order[:trained]), ("validation", order[trained : trained + judged])):
        parquet.write_table(table.take(np.sort(chosen)), folder / f"{split}.parquet")


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("output", type=Path, help="a new folder")
    given = parser.parse_args()
    for task, (trained, judged) in SIZES.items():
        cut(task, given.data, given.output)
        print(f"{task}: {trained} to train on, {judged} to be judged by")


if __name__ == "__main__":
    main()
