"""Plain attention with the sums of torch is the reference, and leaves its model alone."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from inhibitor_transformers.attention import InhibitorScalars, inhibitor_attention
from inhibitor_transformers.attention.call import ModelCenter
from inhibitor_transformers.deploy.export.plain import plain_attention, with_plain_attention
from inhibitor_transformers.deploy.export.torch_sums import torch_sums
from tests.deploy.export.cases import attention_inputs, expected
from tests.deploy.export.cases import padding as padded
from tests.models.tiny import outputs_of, same_outputs, texts, tiny_student


def plain(qkv: list[Tensor], valid: Tensor, scalars: InhibitorScalars, **options: Any) -> Tensor:
    return plain_attention(torch_sums, *qkv, valid, scalars, **({"signed": True, "center": "mean"} | options))


@pytest.mark.parametrize("center", get_args(ModelCenter))
@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("length", [1, 7, 64])
def test_it_is_the_reference(length: int, signed: bool, center: str) -> None:
    qkv, scalars = attention_inputs(5, 3, length, 8)
    valid = padded(5, length)
    found = plain(qkv, valid, scalars, signed=signed, center=center)
    there = expected(qkv, valid, scalars, signed=signed, center=center)
    torch.testing.assert_close(found.double(), there, atol=1e-6 * there.abs().max().item(), rtol=1e-5)
    assert torch.equal(found[4], torch.zeros_like(found[4]))


def test_many_keys_of_which_nearly_nothing_is_left_cost_no_digits() -> None:
    """Sums of hundreds of numbers, taken from each other: the error is at most twice the reference's in float32."""
    qkv, scalars = attention_inputs(1, 4, 500, 8)
    scalars.gamma.fill_(2.0)
    valid = torch.ones(1, 500, dtype=torch.bool)
    there = expected(qkv, valid, scalars)
    reference = inhibitor_attention(*qkv, **scalars.as_arguments(), key_padding_mask=valid, engine="reference")
    error, allowed = ((found.double() - there).abs().max() for found in (plain(qkv, valid, scalars), reference))
    assert error <= 2 * allowed


def test_what_a_masked_key_holds_is_never_read() -> None:
    qkv, scalars = attention_inputs(3, 2, 9, 4)
    valid = padded(3, 9)
    poisoned = [qkv[0], *(t.masked_fill(~valid[:, None, :, None], float("nan")) for t in qkv[1:])]
    assert torch.equal(plain(poisoned, valid, scalars), plain(qkv, valid, scalars))


def test_no_tensor_has_an_element_for_each_query_key_and_feature() -> None:
    sizes = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            sizes.append(out.numel() if isinstance(out, Tensor) else 0)
            return out

    qkv, scalars = attention_inputs(1, 1, 64, 8)
    with Watch():
        plain(qkv, padded(1, 64), scalars)
    assert max(sizes) == 64 * 64


@pytest.mark.parametrize("padding", [True, False])
def test_a_model_keeps_its_attention(padding: bool) -> None:
    model, inputs = tiny_student(), texts(padding=padding)
    before = outputs_of(model, **inputs)
    made = with_plain_attention(model, torch_sums)
    assert same_outputs(outputs_of(model, **inputs), before)
    torch.testing.assert_close(outputs_of(made, **inputs), before)
    assert made.state_dict().keys() == model.state_dict().keys()
