"""Masked-LM logits from hidden states are those of the whole model."""

from __future__ import annotations

import pytest
import torch

from inhibitor_transformers.models.heads import masked_lm_logits
from tests.models.tiny import ARCHITECTURES, HEADS, texts, tiny_student, tiny_teacher


@pytest.mark.parametrize("architecture", [*ARCHITECTURES, "inhibidistilbert"])
@torch.no_grad()
def test_logits_of_all_and_of_some_positions(architecture: str) -> None:
    is_student = architecture == "inhibidistilbert"
    model = tiny_student("ForMaskedLM") if is_student else tiny_teacher(architecture, "MaskedLM")
    outputs = model(**texts(), output_hidden_states=True)
    hidden = outputs.hidden_states[-1]
    torch.testing.assert_close(masked_lm_logits(model, hidden), outputs.logits)
    some = torch.rand(3, 7) < 0.5
    torch.testing.assert_close(masked_lm_logits(model, hidden[some]), outputs.logits[some])


@pytest.mark.parametrize("head", ["", *HEADS[1:]])
def test_other_models_are_refused(head: str) -> None:
    for model in (tiny_student(f"For{head}" if head else "Model"), tiny_teacher("bert", head)):
        with pytest.raises(ValueError, match=f"{type(model).__name__} has no masked-LM head that is known here"):
            masked_lm_logits(model, torch.zeros(1, 16))
