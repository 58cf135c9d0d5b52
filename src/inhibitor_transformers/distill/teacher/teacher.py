"""The teacher: frozen, in evaluation mode, without gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ...models.attention_outputs import output_projections, record_attention_outputs
from ...models.heads import masked_lm_logits

LOGITS = "teacher_logits"  # key of a batch whose teacher has spoken already
_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


@dataclass(frozen=True)
class TeacherOutputs:
    """What a teacher says about one batch; only what was asked for is filled in.

    hidden: L + 1 tensors (B, N, dim), the input of layer i at index i and the output of the last at index L.
    attention_outputs: L tensors (B, N, dim), each layer's attention output before its output projection.
    logits: what the head returned.
    """

    hidden: Sequence[Tensor] = ()
    attention_outputs: Sequence[Tensor] = ()
    logits: Tensor | None = None


class Teacher:
    """A frozen model and the signals that a student learns from.

    Always in evaluation mode, whoever called train. Under autocast it computes in that precision, as the student does:
    in bfloat16 a BERT's hidden states change by less than a ten-thousandth of their variance.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model.eval().requires_grad_(False)

    @torch.no_grad()
    def __call__(
        self, batch: Mapping[str, Tensor], *, attention_outputs: bool = False, hidden: bool = False
    ) -> TeacherOutputs:
        """Signals for a batch with `input_ids`, `attention_mask` and, where its tokenizer gives them, segment ids."""
        projections = output_projections(self.model) if attention_outputs else []
        with record_attention_outputs(projections) as recorded:
            output = self.model.eval()(**model_inputs(batch), output_hidden_states=hidden)
        return TeacherOutputs(
            hidden=tuple(output.hidden_states) if hidden else (),
            attention_outputs=tuple(recorded),
            logits=getattr(output, "logits", None),
        )

    @torch.no_grad()
    def at_positions(self, batch: Mapping[str, Tensor], chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Last hidden states (M, dim) and masked-LM logits (M, vocab) where `chosen`, (B, N) bool, is true."""
        hidden = self.model.eval().base_model(**model_inputs(batch)).last_hidden_state[chosen]
        return hidden, masked_lm_logits(self.model, hidden)


def model_inputs(batch: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a batch that an encoder reads."""
    return {name: batch[name] for name in _INPUTS if name in batch}
