"""What the stages ask of a student and its teacher, whatever their architectures."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ...attention import InhibitorScalars
from ..teacher.teacher import Teacher

Batch = Mapping[str, Tensor]


class TeacherStates(NamedTuple):
    """What the teacher computes in one layer. states: (B, N, dim). valid: (B, N) bool, which of them count."""

    label: str
    states: Tensor
    valid: Tensor


class Matched(NamedTuple):
    """What student and teacher compute in one layer: (B, N, dim) each. valid: (B, N) bool, which of them count."""

    label: str
    ours: Tensor
    theirs: Tensor
    valid: Tensor


class Outputs(NamedTuple):
    """Of one forward pass of both. hidden: per layer. logits: (B, N, classes), N = 1 for a class; None without any."""

    hidden: list[Matched]
    logits: Matched | None


class Pairing(ABC):
    """A student and its teacher.

    Labels ("layer_0", "h.0.attn") name layers in the order of a forward pass, the same in every batch. Batches hold
    model inputs, and `labels` that say what counts.

    widths: hidden sizes of student and teacher where these can differ; None where they cannot.
    reads_first_token: whether a sequence's first state is what classifiers read.
    is_encoder: whether every state sees the whole sequence, so that their mean stands for it.
    """

    widths: tuple[int, int] | None = None
    reads_first_token: bool = True
    is_encoder: bool = True
    has_logits: bool = True

    def __init__(self, student: PreTrainedModel, teacher: Teacher) -> None:
        self.student, self.teacher = student, teacher

    @abstractmethod
    def attention_outputs(self, batch: Batch) -> list[Matched]:
        """Before the output projection, the student's with gradients, each module fed what the teacher's was given."""

    @abstractmethod
    def teacher_attention_outputs(self, batch: Batch) -> list[TeacherStates]:
        """Those of the teacher alone."""

    @abstractmethod
    def outputs(self, batch: Batch) -> Outputs:
        """Hidden states after each layer and logits, each model fed its own states; the student's with gradients."""

    @abstractmethod
    def teacher_hidden_states(self, batch: Batch) -> list[TeacherStates]:
        """Those of the teacher alone."""

    @abstractmethod
    def attention_parameters(self) -> list[nn.Parameter]:
        """The student's parameters on which its attention outputs depend, with the input of their module given."""

    @abstractmethod
    def embedding_parameters(self) -> list[nn.Parameter]:
        """The student's parameters before its first layer."""

    @abstractmethod
    def describe(self, teacher: str) -> list[str]:
        """Which layers of both are compared, for a log; `teacher` is its name."""

    def count(self, valid: Tensor, batch: Batch, count: Tensor | float) -> Tensor | float:
        """What errors of a layer, summed over its valid states, are divided by: `count` is of the batch's labels."""
        return count

    def scalars(self) -> Iterator[InhibitorScalars]:
        """γ, η, δ, ρ of all of the student's attention."""
        return (module for module in self.student.modules() if isinstance(module, InhibitorScalars))

    def to(self, device: torch.device) -> Self:
        """Both models moved there."""
        self.student.to(device)
        self.teacher.model.to(device)
        return self

    def with_student(self, student: PreTrainedModel) -> Self:
        """The same with another student of this teacher."""
        return self._with("student", student)

    def with_teacher(self, teacher: Teacher) -> Self:
        """The same with another form of this teacher."""
        return self._with("teacher", teacher)

    def _with(self, name: str, value: object) -> Self:
        changed = copy.copy(self)
        setattr(changed, name, value)
        return changed
