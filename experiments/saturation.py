"""How many tokens alignment takes: the relative errors in a run's training logs, by tokens.

python experiments/saturation.py runs/minilm
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from inhibitor_transformers.distill.settings import load_yaml
from inhibitor_transformers.measure.report import Table, markdown_table

TERMS = {"align_contexts": "loss/context/", "align_hidden": "loss/hidden/"}
STEPS = (10, 50, 100, 200, 400, 1000, 2000, 3000, 4000, 5000, 6000, 7000, 7600)
WINDOW = 40  # steps that are averaged: batches of short and of long texts differ


def errors(log: list[dict[str, float]], prefix: str, step: int) -> list[float]:
    """Per layer, the mean over the last steps up to `step`."""
    rows = [row for row in log if step - WINDOW < row["step"] <= step]
    names = sorted(name for name in rows[0] if name.startswith(prefix))
    return [sum(row[name] for row in rows) / len(rows) for name in names]


def table(stage: Path, tokens_per_step: int) -> Table:
    log = [row for row in json.loads((stage / "log.json").read_text(encoding="utf-8")) if "loss" in row]
    prefix = TERMS[stage.name.partition("-")[2]]
    rows = []
    for step in (step for step in STEPS if step <= log[-1]["step"]):
        found = errors(log, prefix, step)
        mean = sum(found) / len(found)
        rows.append([f"{step * tokens_per_step / 1e6:.2f}", str(step), f"{mean:.3f}", f"{found[-1]:.3f}"])
    return Table(stage.name, ["million tokens", "step", "mean over layers", "last layer"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    run = parser.parse_args().run
    settings = load_yaml(run / "run.yaml")
    for i, stage in enumerate(settings["stages"], start=1):
        (name,) = stage
        if name in TERMS:
            print(markdown_table(table(run / "stages" / f"{i}-{name}", stage[name]["tokens_per_step"])) + "\n")


if __name__ == "__main__":
    main()
