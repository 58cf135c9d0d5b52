"""The quickstart: a real teacher, text that is already on the machine, and a report, in minutes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import AutoModel

from ..attention.dispatch import serving_engine
from ..common.paths import expanded
from ..common.progress import progress
from ..report import (AttentionMaps, DistillationReport, StageResult, Throughput, write_report)
from ..report.svg import drawing_style
from ..evaluation.similarity import (agreement, embed, pair_cosines, rank_correlation)
from ..evaluation.throughput import sequences_per_second
from ..models import InhibiDistilBertPreTrainedModel
from ..tasks.text import (THIS_MACHINE, english_on_this_machine, split_held_out)
from ..distill.stages.align_attention import attention_output_errors
from ..distill.config import DistillConfig
from ..distill.data import (StepBatches, token_windows)
from ..distill.distillation import Distillation

LENGTHS = (32, 64, 128)
AGREEMENT_LENGTHS = (16, 32, 64, 128)
_COMPARED_TEXTS = 150  # 11,175 pairs
_PLOTTED_PAIRS = 600
_SENTENCE = "The museum keeps its paintings in a cold room, because the paint would suffer in the sun."

Log = Callable[[str], None]


def quickstart_config(teacher: str, steps: int, seed: int) -> DistillConfig:
    """Calibration, then context alignment on short texts: settings that fit two cores and ten minutes."""
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
    """Distill `teacher` into `output`, measuring on held-out text after every stage; writes and returns the report."""
    with drawing_style():  # without matplotlib there is no report: say so now, not after the training
        pass
    output = expanded(output)
    config = quickstart_config(teacher, steps, seed)
    run = Distillation(config, output, overwrite=overwrite, runtime=runtime, log=log)
    held_out = split_held_out(english_on_this_machine(seed=seed), fraction=config.held_out)[1]
    measure = _Measurements(run, held_out)
    reports: list[DistillationReport] = []

    def write(student: InhibiDistilBertPreTrainedModel) -> None:
        log("measuring throughput")
        reports.append(
            DistillationReport(
                title="Quickstart: an inhibitor encoder distilled on this machine",
                teacher="all-MiniLM-L6-v2" if "minilm" in teacher.lower() else teacher,
                student_path=str(output),
                facts=_facts(run, held_out, config),
                stages=measure.stages,
                curves=_curves(run.output / "stages" / "2-align_attention" / "log.json"),
                similarities=measure.similarities,
                throughput=[_throughput(student, run, batch, length) for batch, length in ((1, 64), (8, 64), (8, 128))],
                maps=_maps(student, run, teacher),
                notes=_NOTES,
            )
        )
        with progress("drawing the report"):
            write_report(reports[0], run.output)

    run.run(measure.stage, write)
    return reports[0]


_NOTES = ["Trained for minutes on technical English; docs/results.md says what a longer run on better text reaches."]


class _Measurements:
    """Measures the student as each stage ends, on text that no stage has seen."""

    def __init__(self, run: Distillation, held_out: list[str]) -> None:
        self.run = run
        self.texts = held_out
        windows = token_windows(held_out, run.tokenizer, LENGTHS, seed=1, max_tokens=4096)
        batches = StepBatches(windows, run.tokenizer, steps=4, tokens_per_step=1024, lengths=LENGTHS, seed=1)
        self.batches = [_to(batch, run.teacher.model.device) for batch in (batches[i] for i in range(len(batches)))]
        self.compared = [t for t in held_out if 40 <= len(t) <= 400][:_COMPARED_TEXTS]
        self.teacher_cosines = pair_cosines(embed(run.teacher.model, run.tokenizer, self.compared, max_length=128))
        self.stages: list[StageResult] = []
        self.similarities: dict[str, tuple[list[float], list[float]]] = {}
        self.since = time.monotonic()

    def stage(self, name: str, student: InhibiDistilBertPreTrainedModel) -> None:
        seconds = 0.0 if name == "start" else time.monotonic() - self.since
        run = self.run
        cosines = pair_cosines(embed(student, run.tokenizer, self.compared, max_length=128))
        shown = torch.randperm(len(cosines), generator=torch.Generator().manual_seed(0))[:_PLOTTED_PAIRS]
        self.similarities[name] = (self.teacher_cosines[shown].tolist(), cosines[shown].tolist())
        self.stages.append(
            StageResult(
                name=name,
                seconds=seconds,
                attention_error=attention_output_errors(student, run.teacher, run.layer_map, self.batches),
                similarity_spearman=rank_correlation(self.teacher_cosines, cosines),
                agreement=agreement(
                    student, run.teacher.model, run.tokenizer, self.texts, AGREEMENT_LENGTHS, texts_per_length=32
                ),
            )
        )
        self.since = time.monotonic()


def _to(batch: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    return {name: tensor.to(device) for name, tensor in batch.items()}


def _facts(run: Distillation, held_out: list[str], config: DistillConfig) -> list[tuple[str, str]]:
    log = json.loads((run.output / "stages" / "2-align_attention" / "log.json").read_text(encoding="utf-8"))
    steps = max(entry["step"] for entry in log)
    return [
        ("text", "English prose found on this machine (Python's documentation, docstrings, package descriptions)"),
        ("held-out texts", f"{len(held_out)}, never trained on"),
        ("alignment", f"{steps} steps of at most {config.stages[1]['align_attention']['tokens_per_step']} tokens"),
        ("engine", serving_engine(run.teacher.model.device)),
        ("threads", str(torch.get_num_threads())),
        ("torch", torch.__version__),
        ("transformers", transformers.__version__),
        ("seed", str(config.seed)),
    ]


def _curves(log: Path) -> dict[str, list[tuple[int, float]]]:
    curves: dict[str, list[tuple[int, float]]] = {}
    for entry in json.loads(log.read_text(encoding="utf-8")):
        for key, value in entry.items():
            if key.startswith("loss/attention/layer_"):
                curves.setdefault(f"layer {key.rpartition('_')[2]}", []).append((entry["step"], float(value)))
    return curves


def _throughput(student: InhibiDistilBertPreTrainedModel, run: Distillation, batch: int, length: int) -> Throughput:
    teacher = run.teacher.model
    speeds = sequences_per_second({"student": student, "teacher": teacher}, batch, length, rounds=5)
    engine = serving_engine(teacher.device)
    return Throughput(batch, length, speeds["student"], speeds["teacher"], engine, torch.get_num_threads())


@torch.no_grad()
def _maps(student: InhibiDistilBertPreTrainedModel, run: Distillation, teacher: str) -> AttentionMaps:
    """The head where −Z and the teacher's attention rank the pairs of one sentence most alike."""
    eager = AutoModel.from_pretrained(teacher, attn_implementation="eager").to(student.device)
    batch = run.tokenizer(_SENTENCE, return_tensors="pt").to(student.device)
    attention = eager(**batch, output_attentions=True).attentions
    scores = student.base_model(**batch, output_attentions=True).attentions
    best = max(
        ((layer, head) for layer in range(len(run.layer_map)) for head in range(student.config.n_heads)),
        key=lambda at: rank_correlation(
            -scores[at[0]][0, at[1]].flatten().cpu(),
            attention[run.layer_map.teacher_layers[at[0]]][0, at[1]].flatten().cpu(),
        ),
    )
    layer, head = best
    return AttentionMaps(
        tokens=run.tokenizer.convert_ids_to_tokens(batch["input_ids"][0]),
        layer=layer,
        head=head,
        inhibition=scores[layer][0, head].tolist(),
        attention=attention[run.layer_map.teacher_layers[layer]][0, head].tolist(),
    )
