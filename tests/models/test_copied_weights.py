"""The strongest check of from_teacher: with softmax in the place of the inhibitor, the student *is* its teacher.

What is left between the two is then the attention alone, which is the claim.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AutoModel, AutoTokenizer

from inhibitor_transformers import InhibiDistilBertModel
from inhibitor_transformers.models.attention_interface import ATTENTION_NAME, inhibitor_attention_forward
from tests.models.tiny import ARCHITECTURES, student_class, texts, tiny_teacher

LAYERS = {"distilbert": ("transformer", "layer"), "bert": ("encoder", "layer"), "roberta": ("encoder", "layer")}
LOGITS = {"QuestionAnswering": ["start_logits", "end_logits"]}


def softmax_attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **_: Any
) -> tuple[Tensor, None]:
    scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
    if attention_mask is not None:
        scores = scores.masked_fill(~attention_mask[:, None, None, :], -math.inf)
    return (scores.softmax(-1) @ value).transpose(1, 2), None


@pytest.fixture
def softmax() -> Iterator[None]:
    """While the test runs, "inhibitor" means softmax."""
    AttentionInterface.register(ATTENTION_NAME, softmax_attention)
    yield
    AttentionInterface.register(ATTENTION_NAME, inhibitor_attention_forward)


def inputs_of(architecture: str) -> dict[str, Tensor]:
    inputs = texts()
    return inputs | {"token_type_ids": torch.randint(0, 2, (3, 7))} if architecture == "bert" else inputs


@torch.no_grad()
def hidden_states(model: Any, inputs: dict[str, Tensor]) -> Tensor:
    """Of all layers at the tokens that are not padding: (layers + 1, tokens, width)."""
    states = model(**inputs, output_hidden_states=True).hidden_states
    return torch.stack(states)[:, inputs["attention_mask"].bool()]


@pytest.mark.usefixtures("softmax")
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_hidden_states(architecture: str) -> None:
    teacher, inputs = tiny_teacher(architecture, layers=3), inputs_of(architecture)
    expected = hidden_states(teacher, inputs)
    student = InhibiDistilBertModel.from_teacher(teacher)
    torch.testing.assert_close(hidden_states(student, inputs), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.usefixtures("softmax")
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("layers", [[2, 0], "every 2nd"])
def test_hidden_states_of_chosen_layers(architecture: str, layers: Any) -> None:
    teacher, inputs = tiny_teacher(architecture, layers=3), inputs_of(architecture)
    student = InhibiDistilBertModel.from_teacher(teacher, layers)
    parent, name = LAYERS[architecture]
    blocks = getattr(getattr(teacher, parent), name)
    chosen = nn.ModuleList([blocks[i] for i in ([2, 0] if layers == [2, 0] else [0, 2])])
    setattr(getattr(teacher, parent), name, chosen)
    teacher.config.num_hidden_layers = 2  # BERT and RoBERTa run as many as their config says
    expected = hidden_states(teacher, inputs)
    assert len(expected) == 3
    torch.testing.assert_close(hidden_states(student, inputs), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.usefixtures("softmax")
@pytest.mark.parametrize("architecture", ["bert", "roberta"])
def test_folded_segments_on_single_texts(architecture: str) -> None:
    teacher, inputs = tiny_teacher(architecture), texts()
    student = InhibiDistilBertModel.from_teacher(teacher, segments="fold")
    expected = hidden_states(teacher, inputs)
    torch.testing.assert_close(hidden_states(student, inputs), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.usefixtures("softmax")
@pytest.mark.parametrize(
    ("architecture", "head"),
    [
        *((architecture, head) for architecture in ARCHITECTURES for head in ("MaskedLM", "TokenClassification")),
        *((architecture, "QuestionAnswering") for architecture in ARCHITECTURES),
        ("distilbert", "SequenceClassification"),
        ("distilbert", "MultipleChoice"),
    ],
)
@torch.no_grad()
def test_logits(architecture: str, head: str) -> None:
    teacher, inputs = tiny_teacher(architecture, head), inputs_of(architecture)
    if head == "MultipleChoice":
        inputs = {key: value.view(3, 1, 7) for key, value in inputs.items()}
    student = student_class(f"For{head}").from_teacher(teacher)
    ours, theirs = student(**inputs), teacher(**inputs)
    valid = inputs["attention_mask"].bool() if head in ("MaskedLM", "TokenClassification", *LOGITS) else ...
    for key in LOGITS.get(head, ["logits"]):
        torch.testing.assert_close(ours[key][valid], theirs[key][valid], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_without_the_exchange_they_differ(architecture: str) -> None:
    teacher, inputs = tiny_teacher(architecture), inputs_of(architecture)
    ours, theirs = hidden_states(InhibiDistilBertModel.from_teacher(teacher), inputs), hidden_states(teacher, inputs)
    torch.testing.assert_close(ours[0], theirs[0], atol=1e-5, rtol=1e-5)
    assert (ours[1] - theirs[1]).abs().max() > 0.01


@pytest.mark.usefixtures("softmax")
@pytest.mark.parametrize("segments", ["keep", "fold"])
def test_the_real_teacher(minilm_path: Path, segments: str) -> None:
    teacher = AutoModel.from_pretrained(minilm_path).eval()
    sentences = ["A man is playing a guitar.", "Inhibitor attention adds and compares; it never multiplies.", "Hm?"]
    inputs = dict(AutoTokenizer.from_pretrained(minilm_path)(sentences, padding=True, return_tensors="pt"))
    student = InhibiDistilBertModel.from_teacher(teacher, segments=segments)
    expected = hidden_states(teacher, inputs)
    torch.testing.assert_close(hidden_states(student, inputs), expected, atol=1e-5, rtol=1e-4)
