"""What is read from models through the record of their architecture."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from transformers import BertConfig, DistilBertConfig, ElectraConfig, GPT2Config, GPT2Model, PretrainedConfig

from inhibitor_transformers.models import InhibiDistilBertConfig
from inhibitor_transformers.models.architectures import (
    attention_layers,
    find_field,
    masked_lm_logits,
    record_attention_outputs,
)
from tests.models.tiny import ARCHITECTURES, HEADS, texts, tiny_student, tiny_teacher


def a_model(architecture: str, head: str = "") -> Any:
    if architecture == "inhibidistilbert":
        return tiny_student(f"For{head}" if head else "Model")
    return tiny_teacher(architecture, head, attn_implementation="eager")


@pytest.mark.parametrize("head", ["", *HEADS])
@pytest.mark.parametrize("architecture", [*ARCHITECTURES, "inhibidistilbert"])
def test_one_projection_per_layer(architecture: str, head: str) -> None:
    projections = [layer.output for layer in attention_layers(a_model(architecture, head))]
    assert len(projections) == len(set(projections)) == 2
    assert all(isinstance(p, nn.Linear) and p.in_features == p.out_features == 16 for p in projections)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.no_grad()
def test_attention_outputs_of_a_softmax_teacher(architecture: str) -> None:
    model, inputs = a_model(architecture), texts()
    values: list[torch.Tensor] = []
    for name, module in model.named_modules():
        if name.endswith(("attention.self.value", "v_lin")):
            module.register_forward_hook(lambda _, __, out: values.append(out))
    with record_attention_outputs(attention_layers(model)) as attention_outputs:
        attentions = model(**inputs, output_attentions=True).attentions
    assert len(attention_outputs) == len(values) == 2
    for attention_output, weights, value in zip(attention_outputs, attentions, values, strict=True):
        expected = weights @ value.view(3, 7, 2, 8).transpose(1, 2)
        torch.testing.assert_close(attention_output, expected.transpose(1, 2).reshape(3, 7, 16))


@torch.no_grad()
def test_attention_outputs_of_a_student() -> None:
    model, inputs = tiny_student(), texts()
    outs: list[torch.Tensor] = []
    for block in model.transformer.layer:
        block.attention.register_forward_hook(lambda _, __, out: outs.append(out[0]))
    layers = attention_layers(model)
    with record_attention_outputs(layers) as attention_outputs:
        model(**inputs)
    for layer, attention_output, out in zip(layers, attention_outputs, outs, strict=True):
        assert torch.equal(layer.output(attention_output), out)


@torch.no_grad()
def test_every_call_is_recorded_and_none_after_the_block() -> None:
    model, inputs = tiny_student(), texts()
    with record_attention_outputs(attention_layers(model)) as attention_outputs:
        model(**inputs)
        model(**inputs)
    assert len(attention_outputs) == 4
    assert torch.equal(attention_outputs[0], attention_outputs[2])
    model(**inputs)
    assert len(attention_outputs) == 4


def test_hooks_go_when_the_model_fails() -> None:
    model = tiny_student()
    with pytest.raises(ValueError, match="exactly one"), record_attention_outputs(attention_layers(model)):
        model()
    assert not any(layer.output._forward_pre_hooks for layer in attention_layers(model))


def test_an_unknown_architecture_is_named() -> None:
    model = GPT2Model(GPT2Config(vocab_size=10, n_embd=8, n_layer=1, n_head=2, n_positions=8))
    with pytest.raises(
        ValueError, match=r"the layers of a 'gpt2' model are not known here; known: \['bert', 'distilbert'"
    ):
        attention_layers(model)


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


@pytest.mark.parametrize(
    ("config", "dropout", "feed_forward"),
    [
        (BertConfig(), "attention_probs_dropout_prob", "intermediate_size"),
        (DistilBertConfig(), "attention_dropout", "hidden_dim"),
        (InhibiDistilBertConfig(), "attention_dropout", "hidden_dim"),
        (ElectraConfig(), "attention_probs_dropout_prob", "intermediate_size"),  # without a record
        (PretrainedConfig(), None, None),
    ],
    ids=lambda given: getattr(given, "model_type", None),
)
def test_fields_are_found_by_the_name_of_the_architecture(
    config: PretrainedConfig, dropout: str | None, feed_forward: str | None
) -> None:
    assert find_field(config, "attention_dropout") == dropout
    assert find_field(config, "hidden_dim") == feed_forward


def test_a_field_that_no_architecture_has() -> None:
    assert find_field(BertConfig(), "qa_dropout") is None
