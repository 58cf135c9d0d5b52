"""Trains the classifiers that run encrypted, and writes their accuracies as JSON, one record per run:

    python benchmarks/encrypted_accuracy.py --output results/encrypted-accuracy.json [--tasks digits sst2]
        [--tokens 4 8] [--attention inhibitor softmax relu] [--tied no yes] [--seeds 0 1 2 3 4] [--data FOLDER]
        [--models FOLDER]

Runs whose record is in the file are skipped, so that one command starts and resumes. --models keeps each trained model
in a folder. Without --output nothing is trained: the means over seeds of the records in --table FILE are printed.
Accuracies are those of the integers, which encrypted inference gives bit for bit. "float" is validation before
quantization. Restarts are chosen on validation; a run reads the test split once, at its end. Seconds are of one thread.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch

from inhibitor_transformers.common.atomic import atomic_write
from inhibitor_transformers.deploy.encrypted.levels import ValueLevels
from inhibitor_transformers.deploy.encrypted.training.attention import KINDS
from inhibitor_transformers.deploy.encrypted.training.train import save_trained, train_classifier

KEY = ("task", "tokens", "attention", "tied", "levels", "value_qmax", "signed", "head_qmax", "seed")


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    torch.set_num_threads(1)  # tensors so small that threads would wait for each other
    if options.output is None:
        print_table(read(options.table))
        return
    options.output.parent.mkdir(parents=True, exist_ok=True)
    for cell in cells(options):
        if any(all(record[name] == cell[name] for name in KEY) for record in read(options.output)):
            continue
        record = run(cell, options)
        write(options.output, [*read(options.output), record])
        print(*(record[name] for name in (*KEY, "validation", "test", "bootstraps", "seconds")), flush=True)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--output", type=Path, help="the file of records to make or to go on with")
    target.add_argument("--table", type=Path, help="print the means over seeds of this file instead")
    parser.add_argument("--tasks", nargs="+", choices=["digits", "sst2"], default=["digits"])
    parser.add_argument("--tokens", nargs="+", type=int, default=[4, 8])
    parser.add_argument("--attention", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--tied", nargs="+", choices=["no", "yes"], default=["no", "yes"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--levels", type=int, default=3, help="L of queries and keys")
    parser.add_argument("--value-qmax", type=int, default=7)
    parser.add_argument("--unsigned", action="store_true", help="values 0 … qmax instead of −qmax … qmax")
    parser.add_argument("--head-qmax", type=int, default=1)
    parser.add_argument("--data", type=Path, help="the folder with SST-2's Parquet files, or one above it")
    parser.add_argument("--models", type=Path, help="a folder for the trained models, one folder each")
    return parser.parse_args(arguments)


def cells(options: argparse.Namespace) -> list[dict[str, Any]]:
    """The runs that are asked for, by the names in KEY; seeds in the outer loop, so that an early stop leaves pairs."""
    return [
        {
            "task": task,
            "tokens": tokens,
            "attention": attention,
            "tied": tied == "yes",
            "levels": options.levels,
            "value_qmax": options.value_qmax,
            "signed": not options.unsigned,
            "head_qmax": options.head_qmax,
            "seed": seed,
        }
        for task in options.tasks
        for seed in options.seeds
        for tokens in options.tokens
        for tied in options.tied
        for attention in options.attention
    ]


def run(cell: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    start = time.thread_time()
    trained = train_classifier(
        cell["task"],
        attention=cell["attention"],
        tied=cell["tied"],
        tokens=cell["tokens"],
        levels=cell["levels"],
        value_levels=ValueLevels(cell["value_qmax"], cell["signed"]),
        head_qmax=cell["head_qmax"],
        seed=cell["seed"],
        data=options.data,
    )
    scores = {name: round(100 * score, 2) for name, score in trained.scores.items()}
    record = {**cell, **scores, "bootstraps": trained.classifier.plan().bootstraps}
    if options.models:
        options.models.mkdir(parents=True, exist_ok=True)
        tied = "-tied" if cell["tied"] else ""
        name = f"{cell['task']}-{cell['tokens']}-{cell['attention']}{tied}-{cell['seed']}"
        save_trained(options.models / name, trained)
    return {**record, "seconds": round(time.thread_time() - start, 1)}


def read(file: Path) -> list[dict[str, Any]]:
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else []


def write(file: Path, records: list[dict[str, Any]]) -> None:
    lines = ",\n".join(" " + json.dumps(record) for record in records)
    atomic_write(file, f"[\n{lines}\n]\n")


def print_table(records: list[dict[str, Any]]) -> None:
    rows = defaultdict(list)
    for record in records:
        rows[tuple(record[name] for name in KEY[:-1])].append(record)
    print("| task | tokens | attention | tied | seeds | float | validation | test (deviation) | bootstraps | s a run |")
    print("|" + "---|" * 10)
    for (task, tokens, attention, tied, *_), found in sorted(rows.items()):
        means = [mean(r[name] for r in found) for name in ("float_validation", "validation", "test", "seconds")]
        deviation = stdev(r["test"] for r in found) if len(found) > 1 else 0.0
        cells = [task, tokens, attention, "yes" if tied else "no", len(found), f"{means[0]:.1f}", f"{means[1]:.1f}"]
        cells += [f"{means[2]:.1f} ({deviation:.1f})", found[0]["bootstraps"], f"{means[3]:.0f}"]
        print("| " + " | ".join(map(str, cells)) + " |")


if __name__ == "__main__":
    main()
