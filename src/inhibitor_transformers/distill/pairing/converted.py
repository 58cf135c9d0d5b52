"""A converted model and the model that it was made from, whatever its architecture and its inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ...models.conversion import Record
from ...models.conversion.recording import AttentionCall, record_attention, replay
from ...tasks.modalities.inputs import Written, forward_inputs
from ..losses import IGNORED
from ..teacher.teacher import Teacher
from .base import Batch, Matched, Outputs, Pairing, TeacherStates
from .blocks import BlockStates, find_blocks, record_blocks, record_inputs

_FIRST_TOKENS = ("cls_token", "class_embedding")  # of vision models, whose first state stands for the image


class ConvertedPairing(Pairing):
    """Compares each attention module and each block around one with the teacher's of the same name.

    A label is the module's name in the model, with "#2" where it is applied for the third time.

    Args:
        student: made by `convert` from the teacher's model.
        teacher: the softmax model.
        example: one batch of inputs, by which parameters before and in attention are found.
        has_cls: whether the first token of a text is one that classifiers read.
    """

    def __init__(self, student: PreTrainedModel, teacher: Teacher, example: Batch, has_cls: bool = False) -> None:
        super().__init__(student, teacher)
        self.example = example
        self.written: Written = {}  # of recordings and images
        self.record: Record = student.config.record
        modules = dict(student.named_modules())
        names = [part.name for part in (*self.record.sites, *self.record.unconverted)]
        self.blocks = find_blocks(student, [name for name in modules if name in names])
        sees_all = not any(site.is_causal for site in self.record.sites)
        self.is_encoder = sees_all and not getattr(student.config, "is_encoder_decoder", False)
        has_first = any(name.endswith(_FIRST_TOKENS) for name, _ in student.named_parameters())
        self.reads_first_token = self.is_encoder and (has_cls if "input_ids" in example else has_first)

    def attention_outputs(self, batch: Batch) -> list[Matched]:
        inputs = self._inputs(batch)
        calls = self._calls(inputs)
        ours = replay(self.student, calls)
        return [
            Matched(label, output.flatten(2), theirs, valid)
            for output, (label, theirs, valid) in zip(ours, self._of_calls(calls, inputs), strict=True)
        ]

    def teacher_attention_outputs(self, batch: Batch) -> list[TeacherStates]:
        inputs = self._inputs(batch)
        return self._of_calls(self._calls(inputs), inputs)

    def teacher_calls(self, batch: Batch) -> list[AttentionCall]:
        """The calls of the teacher's attention modules in one forward pass."""
        return self._calls(self._inputs(batch))

    @torch.no_grad()
    def _calls(self, inputs: dict[str, Any]) -> list[AttentionCall]:
        model = self.teacher.model
        with record_attention(model, self.record) as calls:
            model.eval()(**inputs)
        return calls

    def outputs(self, batch: Batch) -> Outputs:
        inputs = self._inputs(batch)
        with record_blocks(self.student, self.blocks) as ours:
            logits = getattr(self.student(**inputs), "logits", None)
        with torch.no_grad(), record_blocks(self.teacher.model, self.blocks) as theirs:
            target = getattr(self.teacher.model.eval()(**inputs), "logits", None)
        hidden = [
            Matched(self._label(a.name, a.application), a.states, b.states, self._valid(a.name, a.states, inputs))
            for a, b in zip(ours, theirs, strict=True)
        ]
        if logits is None or target is None:
            return Outputs(hidden, None)
        a, b = (x.unsqueeze(1) if x.dim() == 2 else x for x in (logits, target))
        return Outputs(hidden, Matched("logits", a, b, self._valid("", a, inputs)))

    @torch.no_grad()
    def teacher_hidden_states(self, batch: Batch) -> list[TeacherStates]:
        inputs = self._inputs(batch)
        with record_blocks(self.teacher.model, self.blocks) as found:
            self.teacher.model.eval()(**inputs)
        return [
            TeacherStates(self._label(x.name, x.application), x.states, self._valid(x.name, x.states, inputs))
            for x in found
        ]

    def attention_parameters(self) -> list[nn.Parameter]:
        modules = [self.student.get_submodule(site.name) for site in self.record.sites]
        candidates = list(dict.fromkeys(p for module in modules for p in module.parameters()))
        with torch.enable_grad():
            outputs = replay(self.student.eval(), self.teacher_calls(self.example))
        return _affecting(outputs, candidates)

    def embedding_parameters(self) -> list[nn.Parameter]:
        inside = {p for name in self.blocks for p in self.student.get_submodule(name).parameters()}
        outside = [p for p in self.student.parameters() if p not in inside]
        with torch.enable_grad(), record_inputs(self.student.eval(), self.blocks) as found:
            self.student(**self._inputs(self.example))
        first = [x for x in found if _is_first(x)]
        before = [x.states for x in first if not _affecting([x.states], list(inside))]
        return _affecting(before, outside)

    def describe(self, teacher: str) -> list[str]:
        return [f"teacher {teacher}", str(self.student.inhibitor_report())]

    def count(self, valid: Tensor, batch: Batch, count: Tensor | float) -> Tensor | float:
        """Scaled to the valid states of a layer: an image counts once, whatever the number of its patches."""
        return count * (valid.sum() / (batch["labels"] != IGNORED).sum())

    def _inputs(self, batch: Batch) -> dict[str, Any]:
        moved = {name: tensor.to(self.student.device) for name, tensor in batch.items()}
        return forward_inputs(self.teacher.model, moved, self.written)

    def _of_calls(self, calls: Sequence[AttentionCall], inputs: dict[str, Any]) -> list[TeacherStates]:
        outputs = [call.output.flatten(2) for call in calls]
        return [
            TeacherStates(self._label(call.site.name, call.application), x, self._valid(call.site.name, x, inputs))
            for call, x in zip(calls, outputs, strict=True)
        ]

    def _label(self, name: str, application: int) -> str:
        return f"{name}#{application}" if application else name

    def _valid(self, name: str, states: Tensor, inputs: dict[str, Any]) -> Tensor:
        """(B, N) bool: the mask of the inputs where it is of the states' length, else all."""
        mask = inputs.get("attention_mask")
        if "decoder_input_ids" in inputs and (not name or f"{name}.".startswith(f"{self._decoder()}.")):
            mask = inputs.get("decoder_attention_mask")
        if mask is None or mask.shape != states.shape[:2]:
            return torch.ones(states.shape[:2], dtype=torch.bool, device=states.device)
        return mask.bool()

    def _decoder(self) -> str:
        decoder = self.student.get_decoder()
        return next(name for name, module in self.student.named_modules() if module is decoder)


def _affecting(outputs: Sequence[Tensor], parameters: list[nn.Parameter]) -> list[nn.Parameter]:
    """Those of the parameters that the outputs depend on."""
    depending = [x.float().sum() for x in outputs if x.requires_grad]
    if not depending or not parameters:
        return []
    gradients = torch.autograd.grad(torch.stack(depending).sum(), parameters, allow_unused=True, retain_graph=True)
    return [p for p, gradient in zip(parameters, gradients, strict=True) if gradient is not None]


def _is_first(block: BlockStates) -> bool:
    return block.name.rpartition(".")[2] == "0" and block.application == 0
