"""Data of a report: plain numbers and texts, no models."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StageResult:
    """The student as one stage left it, measured on held-out text.

    name: "start" (weights copied, the paper's scalars), "calibrate", "align_attention", …
    seconds: wall time of the stage; 0 for "start".
    attention_error: per layer, squared error of the attention outputs over the teacher's squared ones.
    similarity_spearman: Spearman correlation of student's and teacher's cosine similarities of pairs of texts.
    agreement: length in tokens -> mean cosine of student's and teacher's embedding of the same text.
    """

    name: str
    seconds: float
    attention_error: list[float]
    similarity_spearman: float
    agreement: dict[int, float]


@dataclass(frozen=True)
class Throughput:
    """Sequences per second of student and teacher (medians of interleaved runs) at `length` tokens a sequence."""

    batch: int
    length: int
    student: float
    teacher: float
    engine: str
    threads: int

    @property
    def ratio(self) -> float:
        """The student's speed over the teacher's; NaN where the teacher's is not a positive number."""
        return self.student / self.teacher if self.teacher > 0 else float("nan")


@dataclass(frozen=True)
class AttentionMaps:
    """One sentence of N tokens through one layer and head, queries in rows, keys in columns.

    inhibition: Z (N, N) of the student, 0 = passes fully.
    attention: softmax weights (N, N) of the teacher.

    Raises ValueError where a map is not N × N.
    """

    tokens: list[str]
    layer: int
    head: int
    inhibition: list[list[float]]
    attention: list[list[float]]

    def __post_init__(self) -> None:
        n = len(self.tokens)
        for name, values in (("inhibition", self.inhibition), ("attention", self.attention)):
            if len(values) != n or any(len(row) != n for row in values):
                widths = sorted({len(row) for row in values})
                raise ValueError(f"{name} must be {n} x {n} for {n} tokens, got {len(values)} rows of {widths} values")


@dataclass(frozen=True)
class DistillationReport:
    """Everything that a report says.

    facts: (name, value), e.g. texts, tokens trained on, versions.
    stages: in the order in which they ran.
    curves: "layer 0" -> [(step, relative error)], during training.
    similarities: stage name -> (teacher's, student's cosines) of held-out pairs, for the scatter plots.
    maps: None where none were recorded.
    notes: honest remarks.
    """

    title: str
    teacher: str
    student_path: str
    facts: list[tuple[str, str]]
    stages: list[StageResult]
    curves: dict[str, list[tuple[int, float]]]
    similarities: dict[str, tuple[list[float], list[float]]]
    throughput: list[Throughput]
    maps: AttentionMaps | None
    notes: list[str]
