"""Quantized models under what records or differentiates them: the same numbers, or one clear line."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.func import grad, jvp, vmap
from torch.fx.experimental.proxy_tensor import make_fx

from inhibitor_transformers.attention.integer import QuantizedScalars, QuantParams
from inhibitor_transformers.models.architectures import attention_layers
from inhibitor_transformers.models.quantized.linear import Int8Linear
from inhibitor_transformers.models.quantized.modules import join, linear_modules, replace
from tests.models.test_transforms import OnlyTensors, assert_same
from tests.models.tiny import texts, tiny_student

CANNOT = "a quantized model cannot be traced: inhibit export writes it, or take the model that it was made from"


def quantized(linears: bool) -> Any:
    """Without calibration: any ranges will do."""
    model = tiny_student().eval()
    heads, dim = model.config.n_heads, model.config.dim // model.config.n_heads
    for layer in attention_layers(model):
        scalars, high = layer.scalars.as_arguments(), torch.full((heads, dim), 4.0)
        made = QuantizedScalars(heads, heads, dim)
        made.assign(QuantParams.from_ranges(-high, high, high[:, 0], **scalars))
        layer.module.inhibitor = made
    if linears:
        for name, linear in linear_modules(model).items():
            replace(model, name, Int8Linear.from_linear(linear, -4.0, 4.0))
        join(model)
    return OnlyTensors(model).eval()


@pytest.fixture
def whole() -> Any:
    return quantized(linears=True)


@pytest.fixture
def attention_alone() -> Any:
    return quantized(linears=False)


def cases():
    """Without padding, with it, and of another size."""
    return [tuple(t.values()) for t in (texts(padding=False), texts(), texts(5, 11))]


@pytest.mark.filterwarnings("ignore:.torch.jit.trace:DeprecationWarning")
def test_tracing_a_quantized_linear_layer_says_what_to_trace(whole):
    for trace in (torch.jit.trace, lambda m, case: make_fx(m)(*case), lambda m, case: torch.export.export(m, case)):
        with pytest.raises(ValueError, match=CANNOT):
            trace(whole, cases()[0])


@pytest.mark.filterwarnings("ignore:.torch.jit.trace:DeprecationWarning")
def test_a_trace_of_quantized_attention_serves_every_padding(attention_alone):
    with pytest.raises(ValueError, match=r"trace under torch\.no_grad\(\)"):
        torch.jit.trace(attention_alone, cases()[0])
    with torch.no_grad():
        traced = torch.jit.trace(attention_alone, cases()[0])
    assert_same(traced, attention_alone, cases())


def test_quantized_attention_is_exported(attention_alone):
    program = torch.export.export(attention_alone, cases()[0])
    assert_same(program.module(), attention_alone, cases()[:2])


def test_a_derivative_through_quantized_layers_is_an_error(whole):
    """Through residuals a part of it would arrive, and look like all of it."""
    ids, mask = texts().values()
    embedded = whole.model.get_input_embeddings()(ids)

    def total(embedded):
        return whole.model(inputs_embeds=embedded, attention_mask=mask).last_hidden_state.square().sum()

    with pytest.raises(RuntimeError, match="integers have no gradient"):
        total(embedded.clone().requires_grad_()).backward()
    with pytest.raises(RuntimeError, match="integers have no gradient"):
        grad(total)(embedded)
    with pytest.raises(RuntimeError, match="integers have no gradient"):
        jvp(total, (embedded,), (embedded,))


def test_vmap(whole):
    ids, mask = texts().values()
    with torch.no_grad():
        found = vmap(lambda i, m: whole(i[None], m[None])[0])(ids, mask)
        assert torch.equal(found, whole(ids, mask))


def test_a_layer_first_used_inside_a_transform_serves_afterwards():
    layer = Int8Linear.from_linear(torch.nn.Linear(8, 4), -3.0, 3.0)
    x = torch.randn(5, 8)
    with pytest.raises(RuntimeError, match="integers have no gradient"):
        grad(lambda x: layer(x).sum())(x)
    assert layer(x).shape == (5, 4)
