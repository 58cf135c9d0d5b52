"""Distills with settings that fit minutes, and writes the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..common.paths import expand_user
from ..common.progress import Log, progress
from ..distill.config import DistillConfig
from ..distill.distillation import Distillation
from ..models import InhibiDistilBertPreTrainedModel
from ..report import DistillationReport, write_report
from ..report.svg import drawing_style
from ..tasks.prose import english_on_this_machine
from ..tasks.text import THIS_MACHINE, split_held_out
from .attention_maps import most_similar_maps
from .facts import NOTES, facts, loss_curves, model_name
from .measurements import LENGTHS, StageMeasurements, measure_throughput


def quickstart_config(teacher: str, steps: int, seed: int) -> DistillConfig:
    """Calibration, then alignment of attention outputs on short texts: settings that fit two cores and ten minutes."""
    alignment = {
        "max_steps": steps,
        "tokens_per_step": 1024,
        "lengths": list(LENGTHS),
        "save_steps": max(steps // 2, 1),
    }
    calibration = {"lengths": [16, *LENGTHS], "tokens_per_length": 512}
    return DistillConfig(
        teacher=teacher,
        text=[THIS_MACHINE],
        stages=[{"calibrate": calibration}, {"align_attention": alignment}],
        max_texts=20_000,
        seed=seed,
    )


def run_quickstart(
    teacher: str,
    output: str | Path,
    *,
    steps: int,
    seed: int = 0,
    overwrite: bool = False,
    runtime: dict[str, Any] | None = None,
    log: Log = print,
) -> DistillationReport:
    """Distill `teacher` into `output`, measuring on held-out text after every stage; writes and returns the report.

    steps: of attention-output alignment. runtime: as for `Distillation`. Raises ValueError (ConfigError) before any
    work is done, also if the report could not be drawn.
    """
    with drawing_style():  # without matplotlib there is no report: say so now, not after the training
        pass
    output = expand_user(output)
    config = quickstart_config(teacher, steps, seed)
    run = Distillation(config, output, overwrite=overwrite, runtime=runtime, log=log)
    held_out = split_held_out(english_on_this_machine(seed=seed), fraction=config.held_out)[1]
    measurements = StageMeasurements(run, held_out)
    reports: list[DistillationReport] = []

    def report(student: InhibiDistilBertPreTrainedModel) -> None:
        log("measuring throughput")
        reports.append(
            DistillationReport(
                title="Quickstart: an inhibitor encoder distilled on this machine",
                teacher=model_name(teacher),
                student_path=str(output),
                facts=facts(run, len(held_out)),
                stages=measurements.stages,
                curves=loss_curves(run),
                similarities=measurements.similarities,
                throughput=measure_throughput(student, run.teacher.model),
                maps=most_similar_maps(student, run, teacher),
                notes=NOTES,
            )
        )
        with progress("drawing the report"):
            write_report(reports[0], run.output)

    run.run(measurements.measure, report)
    return reports[0]
