"""What `convert` refuses, with the reason, and the model as it was."""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from transformers import LlamaForCausalLM

from inhibitor_transformers import convert
from tests.models.conversion.test_discovery import state_of
from tests.models.conversion.zoo import REFUSED, copied, equal, example, run, teacher
from tests.models.tiny import tiny_student


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("name", REFUSED)
def test_architectures_are_refused_by_what_they_compute(name: str, in_place: bool) -> None:
    model = copy.deepcopy(teacher(name))
    run(model, **example(name))  # some keep things of their forward pass
    before = state_of(model)
    with pytest.raises(ValueError, match=REFUSED[name]):
        convert(model, example(name), in_place=in_place)
    assert state_of(model) == before
    assert equal(run(model, **example(name)), run(teacher(name), **example(name)))


def with_adapter(model: Any) -> Any:
    model._hf_peft_config_loaded = True  # as add_adapter leaves it
    return model


def wrapped_in_peft(model: Any) -> Any:
    peft = pytest.importorskip("peft")
    return peft.get_peft_model(model, peft.LoraConfig(target_modules=["q_proj"], r=2))


def quantized(model: Any) -> Any:
    model.hf_quantizer = SimpleNamespace(quantization_config={})
    return model


def offloaded(model: Any) -> Any:
    accelerate = pytest.importorskip("accelerate")
    return accelerate.cpu_offload(model, torch.device("cpu"))


def remote_code(model: Any) -> Any:
    model.__class__ = type("Own", (LlamaForCausalLM,), {"_auto_class": "AutoModelForCausalLM"})
    return model


def with_nan(model: Any) -> Any:
    with torch.no_grad():
        model.lm_head.weight[0, 0] = torch.nan
    return model


KINDS: list[tuple[Callable[[Any], Any], type[Exception], str]] = [
    (with_adapter, ValueError, "adapters: merge them"),
    (wrapped_in_peft, TypeError, "merge its adapters"),
    (quantized, ValueError, "is quantized"),
    (offloaded, ValueError, "is offloaded"),
    (remote_code, ValueError, "code that came with a checkpoint"),
    (with_nan, ValueError, "NaN or infinite"),
    (lambda _: copied("Llama"), ValueError, "has inhibitor attention already"),
    (lambda _: tiny_student(), ValueError, "has inhibitor attention already"),
    (lambda _: nn.Linear(2, 2), TypeError, "takes a transformers model, got Linear"),
]


@pytest.mark.parametrize(("prepare", "error", "reason"), KINDS)
def test_models_that_cannot_be_converted(prepare: Callable[[Any], Any], error: type[Exception], reason: str) -> None:
    model = prepare(copy.deepcopy(teacher("Llama")))
    with pytest.raises(error, match=reason):
        convert(model, example("Llama"))


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"modules": ["model.layers.7"]}, "is or lies in 'model.layers.7'"),
        ({"modules": ["lm_head"]}, "is or lies in 'lm_head'"),
        ({"modules": "model.layers.0"}, "must be a list of names"),
        ({"modules": []}, "no attention module"),
        ({"gamma": 1.0}, "has no option gamma; it has signed, center"),
        ({"center": "median"}, "center must be one of"),
        ({"signed": 1}, "signed must be true or false"),
        ({"length_reference": 0}, "length_reference must be a positive number"),
    ],
)
def test_arguments(given: dict[str, Any], reason: str) -> None:
    model = copy.deepcopy(teacher("Llama"))
    before = state_of(model)
    with pytest.raises(ValueError, match=reason):
        convert(model, example("Llama"), in_place=True, **given)
    assert state_of(model) == before


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        ({}, "the example does not run through LlamaForCausalLM"),
        ({"input_ids": torch.full((1, 4), 10_000)}, "the example does not run through LlamaForCausalLM"),
        (torch.zeros(1, 4).long(), "one batch of inputs by name, got Tensor"),
    ],
)
def test_examples(inputs: Any, reason: str) -> None:
    model = copy.deepcopy(teacher("Llama")).train()
    before = state_of(model)
    with pytest.raises(ValueError, match=reason):
        convert(model, inputs, in_place=True)
    assert state_of(model) == before


def test_one_module_that_cannot_be_converted() -> None:
    with pytest.raises(ValueError, match=r"layers\.0\.self_attn cannot be converted: its attention takes softcap"):
        convert(teacher("Gemma2"), example("Gemma2"), modules=["model.layers.0"])


def test_a_class_that_ignores_the_interface_at_times_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """It follows the interface while it is watched and not afterwards."""
    from transformers.models.llama import modeling_llama

    model = copy.deepcopy(teacher("Llama"))
    before = state_of(model)
    found = modeling_llama.ALL_ATTENTION_FUNCTIONS.get_interface

    def stubborn(name: str, default: Any) -> Any:
        return default if name.startswith("inhibitor_converted") else found(name, default)

    monkeypatch.setattr(modeling_llama.ALL_ATTENTION_FUNCTIONS, "get_interface", stubborn)
    with pytest.raises(ValueError, match="did not run inhibitor attention in 2 of 2 modules"):
        convert(model, {"input_ids": torch.arange(5, 9)[None]}, in_place=True)
    assert state_of(model) == before
