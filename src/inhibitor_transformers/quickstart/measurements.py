"""How near the student is to its teacher after every stage, on text that no stage has seen, and how fast it is."""

from __future__ import annotations

import time

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..attention.dispatch import serving_engine
from ..distill.data import StepBatches, token_windows
from ..distill.distillation import Distillation
from ..distill.stages.align_attention import attention_output_errors
from ..evaluation.similarity import agreement, embed, pair_cosines, rank_correlation
from ..evaluation.throughput import sequences_per_second
from ..models import InhibiDistilBertPreTrainedModel
from ..report import StageResult, Throughput

LENGTHS = (32, 64, 128)
AGREEMENT_LENGTHS = (16, 32, 64, 128)
_SPEEDS = ((1, 64), (8, 64), (8, 128))  # batch, tokens
_COMPARED_TEXTS = 150  # 11,175 pairs
_PLOTTED_PAIRS = 600
_MAX_LENGTH = 128


class StageMeasurements:
    """Measures the student as each stage ends.

    Attributes:
        stages: a result per stage.
        similarities: stage -> cosine similarities of pairs of texts, the teacher's and the student's.
    """

    def __init__(self, run: Distillation, held_out: list[str]) -> None:
        self.run = run
        self.texts = held_out
        windows = token_windows(held_out, run.data.preprocessor, LENGTHS, seed=1, max_tokens=4096)
        batches = StepBatches(windows, run.data.preprocessor, steps=4, tokens_per_step=1024, lengths=LENGTHS, seed=1)
        self.batches = [_to(batch, run.teacher.model.device) for batch in (batches[i] for i in range(len(batches)))]
        self.compared = [t for t in held_out if 40 <= len(t) <= 400][:_COMPARED_TEXTS]
        self.teacher_cosines = self._cosines(run.teacher.model)
        self.stages: list[StageResult] = []
        self.similarities: dict[str, tuple[list[float], list[float]]] = {}
        self.since = time.monotonic()

    def measure(self, stage: str, student: InhibiDistilBertPreTrainedModel) -> None:
        """Add the results of a stage ("start" before the first); what this takes is not counted as the stage's."""
        seconds = 0.0 if stage == "start" else time.monotonic() - self.since
        run = self.run
        cosines = self._cosines(student)
        shown = torch.randperm(len(cosines), generator=torch.Generator().manual_seed(0))[:_PLOTTED_PAIRS]
        self.similarities[stage] = (self.teacher_cosines[shown].tolist(), cosines[shown].tolist())
        self.stages.append(
            StageResult(
                name=stage,
                seconds=seconds,
                attention_error=attention_output_errors(run.pairing.with_student(student), self.batches),
                similarity_spearman=rank_correlation(self.teacher_cosines, cosines),
                agreement=agreement(
                    student,
                    run.teacher.model,
                    run.data.preprocessor,
                    self.texts,
                    AGREEMENT_LENGTHS,
                    texts_per_length=32,
                ),
            )
        )
        self.since = time.monotonic()

    def _cosines(self, model: PreTrainedModel) -> Tensor:
        """Cosine similarities (pairs,) of the embeddings of the compared texts."""
        return pair_cosines(embed(model, self.run.data.preprocessor, self.compared, max_length=_MAX_LENGTH))


def measure_throughput(student: PreTrainedModel, teacher: PreTrainedModel) -> list[Throughput]:
    """Sequences per second of both, in turn, at several sizes of a batch."""
    engine, threads = serving_engine(teacher.device), torch.get_num_threads()
    results = []
    for batch, length in _SPEEDS:
        speeds = sequences_per_second({"student": student, "teacher": teacher}, batch, length, rounds=5)
        results.append(Throughput(batch, length, speeds["student"], speeds["teacher"], engine, threads))
    return results


def _to(batch: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    return {name: tensor.to(device) for name, tensor in batch.items()}
