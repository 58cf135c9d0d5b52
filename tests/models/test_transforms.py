"""Models under torch.jit.trace, make_fx and torch.func: exact for other texts and other padding."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vmap
from torch.fx.experimental.proxy_tensor import make_fx

from tests.models.tiny import texts, tiny_student

CLASS = "ForSequenceClassification"


class OnlyTensors(nn.Module):
    """What traces can take."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.model(input_ids=input_ids, attention_mask=attention_mask)[0]


def padded_otherwise() -> list[tuple[Tensor, ...]]:
    """Texts without padding, with it, and of another number and length."""
    return [tuple(t.values()) for t in (texts(padding=False), texts(), texts(5, 11), texts(1, 1, padding=False))]


def assert_same(traced: Any, module: nn.Module, cases: list[tuple[Tensor, ...]]) -> None:
    with torch.no_grad():
        for case in cases:
            torch.testing.assert_close(traced(*case), module(*case), rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.torch.jit.trace:DeprecationWarning")
@pytest.mark.parametrize("name", ["Model", CLASS])
@pytest.mark.parametrize("fields", [{}, {"inhibitor_value_center": "mean", "inhibitor_signed": False}])
def test_a_trace_serves_every_padding(name: str, fields: dict[str, Any]) -> None:
    """Traced on texts without padding, where a call in plain torch leaves the mask out."""
    module = OnlyTensors(tiny_student(name, **fields)).eval()
    cases = padded_otherwise()
    assert_same(torch.jit.trace(module, cases[0]), module, cases)


@pytest.mark.parametrize("pre_dispatch", [False, True], ids=["", "pre-dispatch"])
@pytest.mark.parametrize("mode", ["real", "symbolic"])
def test_make_fx_serves_every_padding(mode: str, pre_dispatch: bool) -> None:
    module = OnlyTensors(tiny_student(CLASS)).eval()
    cases = padded_otherwise()[:2] if mode == "real" else padded_otherwise()[:3]
    with torch.no_grad():
        traced = make_fx(module, tracing_mode=mode, pre_dispatch=pre_dispatch, _allow_non_fake_inputs=True)(*cases[0])
    assert_same(traced, module, cases)


def loss(model: Any, parameters: Any, ids: Tensor, mask: Tensor) -> Tensor:
    return functional_call(model, parameters, (), {"input_ids": ids, "attention_mask": mask}).logits.square().sum()


def test_gradients_of_every_sample() -> None:
    model, inputs = tiny_student(CLASS), texts()
    ids, mask = inputs.values()
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    of_sample = vmap(grad(lambda p, i, m: loss(model, p, i[None], m[None])), (None, 0, 0))(parameters, ids, mask)
    for row in range(len(ids)):
        model.zero_grad()
        model(input_ids=ids[row : row + 1], attention_mask=mask[row : row + 1]).logits.square().sum().backward()
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                torch.testing.assert_close(of_sample[name][row], parameter.grad, rtol=1e-3, atol=1e-3)


def test_forward_mode_is_the_gradient_in_a_direction() -> None:
    model = tiny_student(CLASS)
    ids, mask = texts().values()
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    direction = {name: torch.randn_like(p) for name, p in parameters.items()}
    _, derivative = jvp(lambda p: loss(model, p, ids, mask), (parameters,), (direction,))
    gradients = grad(lambda p: loss(model, p, ids, mask))(parameters)
    expected = sum((gradients[name] * d).sum() for name, d in direction.items())
    assert derivative.abs() > 1
    torch.testing.assert_close(derivative, expected, rtol=1e-3, atol=1e-3)
