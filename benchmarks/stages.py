"""How much faster distillation and fine-tuning are with the CPU engine: the same commands with both engines.

    python benchmarks/stages.py [--threads 1] [--steps 10] [--stages align quickstart finetune]
                                [--model runs/minilm] [--data ../shared/data] [--output FILE]

Each run is a process of its own, `inhibit …` with INHIBITOR_ENGINE=reference or cpu, one after the other. Seconds per
step are Trainer's own account without loading, calibration and evaluation; those of the command are all of it. Both
engines must have the same losses, or nothing is reported.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from report import Report, machine, progress
from require_tests import ROOT, require_passing_tests

BATCH = 32  # examples per step of fine-tuning
SAME_LOSS = 0.02  # of the loss: both engines round differently in every step
HEADER = ["command", "steps", *(f"{e}: s/step" for e in ("reference", "cpu")), "times faster"]
HEADER += [*(f"{e}: command s (CPU s)" for e in ("reference", "cpu")), "times faster"]


class Training(NamedTuple):
    """Seconds of all steps, and every loss that was logged."""

    seconds: float
    losses: list[float]


@dataclass(frozen=True)
class Stage:
    """Arguments of `inhibit`, and who reads from its output folder what the training was, without evaluation."""

    arguments: list[str]
    trained: Callable[[Path], Training]


@dataclass(frozen=True)
class Run:
    per_step: float
    wall: float
    cpu: float
    losses: list[float]


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    require_passing_tests()
    report = Report(options.output)
    report.line(f"\n## Distillation and fine-tuning, {options.threads} thread(s)\n\n{machine()}.")
    report.header(HEADER)
    stages = all_stages(options)
    for name in options.stages:
        stage = stages[name]
        runs = {engine: run(stage, engine, options) for engine in ("reference", "cpu")}
        reference, cpu = runs["reference"], runs["cpu"]
        require_same_losses(name, reference.losses, cpu.losses)
        report.row(
            [
                f"`inhibit {' '.join(stage.arguments)}`",
                str(options.steps),
                f"{reference.per_step:.3f}",
                f"{cpu.per_step:.3f}",
                f"{reference.per_step / cpu.per_step:.2f}",
                f"{reference.wall:.0f} ({reference.cpu:.0f})",
                f"{cpu.wall:.0f} ({cpu.cpu:.0f})",
                f"{reference.wall / cpu.wall:.2f}",
            ]
        )


def require_same_losses(name: str, reference: list[float], cpu: list[float]) -> None:
    """Raise SystemExit unless both engines were trained alike."""
    alike = len(reference) == len(cpu) > 0
    if not alike or not all(abs(a - b) <= SAME_LOSS * abs(a) for a, b in zip(reference, cpu, strict=True)):
        raise SystemExit(f"{name}: the losses are {reference} by reference and {cpu} by cpu: nothing is reported")


def all_stages(options: argparse.Namespace) -> dict[str, Stage]:
    """The recipe of configs/minilm.yaml with fewer steps, the quickstart, and fine-tuning on MRPC."""
    steps, data = options.steps, options.data
    wikitext = str(Path(data) / "wikitext-2")
    align = ["distill", "configs/minilm.yaml", "--text", wikitext, "--set", f"align_attention.max_steps={steps}"]
    finetune = ["finetune", options.model, "--task", "mrpc", "--data", data, "--epochs", "1"]
    finetune += ["--batch-size", str(BATCH), "--max-train-examples", str(BATCH * steps), "--max-eval-examples", "32"]
    return {
        "align": Stage(align, _from_log),
        "quickstart": Stage(["quickstart", "--steps", str(steps)], _from_log),
        "finetune": Stage([*finetune, "--report-to", "tensorboard"], _from_tensorboard),
    }


def run(stage: Stage, engine: str, options: argparse.Namespace) -> Run:
    """Run the command in a process of its own. Raises SystemExit with the end of what it said if it fails."""
    progress(f"{engine}: inhibit {' '.join(stage.arguments)}")
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "output"
        more = ["--output", str(output), "--threads", str(options.threads)]
        command = [sys.executable, "-c", "from inhibitor_transformers.cli import main; main()", *stage.arguments, *more]
        environment = os.environ | {"INHIBITOR_ENGINE": engine, "OMP_NUM_THREADS": str(options.threads)}
        cpu, start = _children_seconds(), time.perf_counter()
        done = subprocess.run(command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True)
        wall, cpu = time.perf_counter() - start, _children_seconds() - cpu
        if done.returncode != 0:
            raise SystemExit(f"{done.stdout[-1000:]}\n{done.stderr[-2000:]}\nfailed: {' '.join(stage.arguments)}")
        training = stage.trained(output)
        return Run(training.seconds / options.steps, wall, cpu, training.losses)


def _children_seconds() -> float:
    """CPU seconds of all processes that this one has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _from_log(output: Path) -> Training:
    log = json.loads((output / "stages" / "2-align_attention" / "log.json").read_text(encoding="utf-8"))
    return Training(log[-1]["train_runtime"], [entry["loss"] for entry in log if "loss" in entry])


def _from_tensorboard(output: Path) -> Training:
    """Of the fine-tuning, less the evaluations that Trainer counts with it."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = next(output.rglob("events.out.tfevents.*"))
    scalars = EventAccumulator(str(events)).Reload()
    evaluations = [tag for tag in scalars.Tags()["scalars"] if tag.startswith("eval") and tag.endswith("runtime")]
    seconds = _total(scalars, "train/train_runtime") - sum(_total(scalars, tag) for tag in evaluations)
    return Training(seconds, [event.value for event in scalars.Scalars("train/train_loss")])


def _total(scalars: object, tag: str) -> float:
    return sum(event.value for event in scalars.Scalars(tag))


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=10)
    names = ["align", "quickstart", "finetune"]
    parser.add_argument("--stages", nargs="+", choices=names, default=names)
    parser.add_argument("--model", default="runs/minilm", help="student to fine-tune; relative to the repository")
    parser.add_argument("--data", default="../shared/data", help="GLUE and WikiText-2; relative to the repository")
    parser.add_argument("--output", type=Path, help="a new file for the Markdown")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
