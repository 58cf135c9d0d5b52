"""The tables of a report and the sentences that explain them, shared by all of its forms."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import NamedTuple

from .formatting import MISSING, correlation, duration, significant, value_range
from .results import DistillationReport, StageResult, Throughput

STAGES_EXPLAINED = (
    "Attention error: squared distance of the student's attention outputs (before the output projection) from "
    "the teacher's, over the teacher's squared length; 0 is exact, 1 is what all zeros would give. "
    "Spearman: rank correlation of the two models' cosine similarities over pairs of texts. "
    "Cosine at 64: between the two models' embeddings of the same text, cut to 64 tokens."
)
# Two speeds this close are called equal: repeated runs differ by as much.
_EQUAL_SPEED = 0.03
SLOWER, EQUAL, FASTER = "slower than", "about as fast as", "faster than"


class Table(NamedTuple):
    """Written cells; the first column names the row, the others hold numbers."""

    title: str
    header: list[str]
    rows: list[list[str]]


class Headline(NamedTuple):
    """One number for a reader in a hurry, and what it was at the start."""

    value: str
    name: str
    remark: str


def introduction(report: DistillationReport) -> str:
    """What this is, in three sentences."""
    return (
        f"The student is the encoder {report.teacher} with inhibitor attention in place of softmax attention: queries "
        "and keys are compared by their Manhattan distance, and what is far is subtracted from the values through a "
        f"ReLU. Its weights were copied from the teacher and {_fitting(report)}. Unless something else is said, "
        "quality is agreement with the teacher, measured on text that no stage has seen."
    )


def _fitting(report: DistillationReport) -> str:
    ran = [stage for stage in report.stages if stage.name != "start"]
    if not ran:
        return "not yet fitted to it"
    names = ", ".join(stage_label(stage.name) for stage in ran)
    stages = "one stage" if len(ran) == 1 else f"{len(ran)} stages"
    return f"then fitted to it in {stages} ({names}), {duration(sum(stage.seconds for stage in ran))} in all"


def headlines(report: DistillationReport) -> list[Headline]:
    """The last stage in a few numbers."""
    if not report.stages:
        return []
    first, last = report.stages[0], report.stages[-1]
    found = [
        Headline(
            correlation(last.similarity_spearman),
            "agreement of similarities with the teacher (Spearman)",
            _at_start(report, correlation(first.similarity_spearman)),
        )
    ]
    if last.agreement:
        found.append(
            Headline(
                value_range(last.agreement.values(), "z.2f"),
                f"cosine to the teacher's embeddings, {value_range(last.agreement, 'd')} tokens",
                _at_start(report, value_range(first.agreement.values(), "z.2f")),
            )
        )
    found.append(
        Headline(
            significant(mean_error(last)),
            "relative error of the attention outputs, mean over layers",
            _at_start(report, significant(mean_error(first))),
        )
    )
    if ratios := _ratios(report.throughput):
        found.append(Headline(f"{value_range(ratios, '.2f')}×", "the teacher's speed", "sequences per second"))
    return found


def stage_table(report: DistillationReport) -> Table:
    """A row per stage."""
    lengths = sorted({length for stage in report.stages for length in stage.agreement})
    return Table(
        "After each stage",
        ["stage", "time", "attention error", "Spearman", *(f"cosine at {length}" for length in lengths)],
        [
            [
                stage_label(stage.name),
                duration(stage.seconds),
                significant(mean_error(stage)),
                correlation(stage.similarity_spearman),
                *(correlation(stage.agreement.get(length)) for length in lengths),
            ]
            for stage in report.stages
        ],
    )


def layer_table(report: DistillationReport) -> Table:
    """A row per layer, a column per stage."""
    depth = max((len(stage.attention_error) for stage in report.stages), default=0)
    columns = [stage.attention_error + [None] * (depth - len(stage.attention_error)) for stage in report.stages]
    return Table(
        "Attention error of each layer",
        ["layer", *(stage_label(stage.name) for stage in report.stages)],
        [[str(layer), *(significant(column[layer]) for column in columns)] for layer in range(depth)],
    )


def throughput_table(report: DistillationReport) -> Table:
    """A row per batch shape."""
    return Table(
        "Sequences per second",
        ["batch × tokens", "student", "teacher", "student/teacher", "engine", "threads"],
        [
            [
                f"{t.batch} × {t.length}",
                significant(t.student),
                significant(t.teacher),
                f"{t.ratio:.2f}" if math.isfinite(t.ratio) else MISSING,
                t.engine,
                str(t.threads),
            ]
            for t in report.throughput
        ],
    )


def throughput_verdict(throughput: list[Throughput]) -> str:
    """Whether the student is faster, said plainly; empty where nothing was measured."""
    ratios = _ratios(throughput)
    if not ratios:
        return ""
    speed = f"{value_range(ratios, '.2f')} times the teacher's speed"
    counts = Counter(_compare(ratio) for ratio in ratios)
    if len(counts) == 1:
        return f"The student is {next(iter(counts))} the teacher at every size measured: {speed}."
    where = ", ".join(f"{word} the teacher at {counts[word]}" for word in (SLOWER, EQUAL, FASTER) if word in counts)
    return f"Of {len(ratios)} sizes measured, the student is {where}: {speed}."


def _compare(ratio: float) -> str:
    if abs(ratio - 1) <= _EQUAL_SPEED:
        return EQUAL
    return SLOWER if ratio < 1 else FASTER


def loading_code(student_path: str) -> list[tuple[str, str]]:
    """(library, code that loads the student with it)."""
    source = json.dumps(student_path, ensure_ascii=False)  # as Python writes strings, too
    return [
        (
            "Transformers",
            "import inhibitor_transformers  # registers the model type\n"
            "from transformers import AutoModel, AutoTokenizer\n\n"
            f"model = AutoModel.from_pretrained({source})\n"
            f"tokenizer = AutoTokenizer.from_pretrained({source})",
        ),
        (
            "Sentence Transformers",
            "import inhibitor_transformers  # registers the model type\n"
            "from sentence_transformers import SentenceTransformer\n\n"
            f"model = SentenceTransformer({source})\n"
            'embeddings = model.encode(["A first sentence.", "And a second."])',
        ),
    ]


def stage_correlation(report: DistillationReport, stage: str) -> str:
    """The rank correlation of one stage in words; empty where the report has none of that name."""
    found = [s.similarity_spearman for s in report.stages if s.name == stage]
    return f"Spearman {correlation(found[0])}" if found else ""


def stage_label(name: str) -> str:
    """A stage's name for people."""
    return name.replace("_", " ")


def mean_error(stage: StageResult) -> float | None:
    """Mean over the layers of the relative errors of the attention outputs; None where none was measured."""
    return sum(stage.attention_error) / len(stage.attention_error) if stage.attention_error else None


def _at_start(report: DistillationReport, value: str) -> str:
    return f"{value} at the start" if len(report.stages) > 1 else ""


def _ratios(throughput: list[Throughput]) -> list[float]:
    return [t.ratio for t in throughput if math.isfinite(t.ratio)]
