"""Students of an architecture that the package does not know: one record, added from outside, is all it takes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import ElectraConfig, ElectraForMaskedLM, ElectraModel

from inhibitor_transformers import InhibiDistilBertForMaskedLM, InhibiDistilBertModel
from inhibitor_transformers.distill.stages.calibrate import calibrate
from inhibitor_transformers.distill.teacher.teacher import Teacher
from inhibitor_transformers.models import map_layers
from inhibitor_transformers.models.architectures import (
    ARCHITECTURES,
    BERT,
    PER_TOKEN_HEADS,
    attention_layers,
    masked_lm_logits,
    max_tokens,
    record_attention_outputs,
)
from inhibitor_transformers.models.softmax_student import softmax_student
from tests.models.tiny import POSITIONS, VOCAB, WIDTH, randomized, texts

ELECTRA = replace(
    BERT,
    heads=PER_TOKEN_HEADS
    | {
        "MaskedLM": {
            "vocab_transform": "generator_predictions.dense",
            "vocab_layer_norm": "generator_predictions.LayerNorm",
            "vocab_projector": "generator_lm_head",
        }
    },
    masked_lm=("generator_predictions", "generator_lm_head"),
)


def electra(model_class: type[Any] = ElectraModel) -> Any:
    sizes = {"hidden_size": WIDTH, "embedding_size": WIDTH, "intermediate_size": 2 * WIDTH}
    depth = {"num_attention_heads": 2, "num_hidden_layers": 3}
    config = ElectraConfig(vocab_size=VOCAB, max_position_embeddings=POSITIONS, **sizes, **depth)
    return randomized(model_class(config))


@pytest.fixture(autouse=True)
def _record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ARCHITECTURES, "electra", ELECTRA)


def test_the_weights_of_every_layer() -> None:
    teacher = electra()
    student = InhibiDistilBertModel.from_teacher(teacher, "0,2", segments="keep")
    for ours, source in zip(attention_layers(student), (0, 2), strict=True):
        theirs = attention_layers(teacher)[source]
        for part in ("query", "key", "value", "output"):
            a, b = getattr(ours, part), getattr(theirs, part)
            assert torch.equal(a.weight, b.weight)
            assert torch.equal(a.bias, b.bias)
        assert ours.scalars is not None
        assert theirs.scalars is None
        block, other = student.transformer.layer[source // 2], teacher.encoder.layer[source]
        assert torch.equal(block.ffn.lin1.weight, other.intermediate.dense.weight)
        assert torch.equal(block.output_layer_norm.weight, other.output.LayerNorm.weight)
    config = teacher.config
    assert (student.config.dropout, student.config.attention_dropout) == (config.hidden_dropout_prob, 0.1)
    assert (student.config.hidden_dim, student.config.activation) == (2 * WIDTH, config.hidden_act)
    assert max_tokens(student.config) == max_tokens(config) == POSITIONS


@torch.no_grad()
def test_with_softmax_put_back_the_student_computes_what_the_teacher_computes() -> None:
    teacher, inputs = electra(), texts()
    ours = softmax_student(teacher)(**inputs, output_hidden_states=True).hidden_states
    theirs = teacher(**inputs, output_hidden_states=True).hidden_states
    for a, b in zip(ours, theirs, strict=True):
        valid = inputs["attention_mask"].bool()
        torch.testing.assert_close(a[valid], b[valid])


@torch.no_grad()
def test_the_masked_lm_head() -> None:
    teacher = electra(ElectraForMaskedLM)
    student = InhibiDistilBertForMaskedLM.from_teacher(teacher)
    outputs = teacher(**texts(), output_hidden_states=True)
    hidden = outputs.hidden_states[-1]
    assert torch.equal(masked_lm_logits(teacher, hidden), outputs.logits)
    torch.testing.assert_close(masked_lm_logits(student, hidden), outputs.logits)


def test_calibration() -> None:
    teacher = Teacher(electra())
    student = InhibiDistilBertModel.from_teacher(teacher.model)
    layer_map = map_layers("all", 3)
    batches = [texts(length=length, padding=False) for length in (6, 11)]
    before = [layer.scalars.gamma.clone() for layer in attention_layers(student)]
    found = calibrate(student, teacher, layer_map, batches)
    assert len(found.before) == len(found.relative_error) == 3
    for i, layer in enumerate(attention_layers(student)):
        assert not torch.equal(layer.scalars.gamma, before[i])
        assert sum(found.relative_error[i]) < sum(found.before[i])


@torch.no_grad()
def test_the_attention_outputs_that_calibration_fits_are_the_teachers() -> None:
    model, inputs = electra(), texts(padding=False)
    expected: list[torch.Tensor] = []
    for layer in model.encoder.layer:
        layer.attention.self.register_forward_hook(lambda _, __, out: expected.append(out[0]))
    with record_attention_outputs(attention_layers(model)) as found:
        model(**inputs)
    assert len(found) == 3
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_without_the_record_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(ARCHITECTURES, "electra")
    with pytest.raises(ValueError, match="no student can be built from a 'electra' teacher"):
        InhibiDistilBertModel.from_teacher(electra())
