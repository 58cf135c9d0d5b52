"""The learnable scalars as a module."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from inhibitor_transformers.attention import InhibitorScalars, inhibitor_attention
from tests.attention.cases import Shape, random_inputs

NAMES = ["gamma", "eta", "delta", "length_exponent"]


def qkv(dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    inputs = random_inputs(Shape(heads=3, kv_heads=3), dtype=dtype)
    return {name: inputs[name] for name in ("query", "key", "value")}


def test_initial_values_are_those_of_the_paper() -> None:
    scalars = InhibitorScalars(3)
    assert {name: p.tolist() for name, p in scalars.named_parameters()} == {
        "gamma": [1.0] * 3,
        "eta": [1.0] * 3,
        "delta": [0.5] * 3,
        "length_exponent": [0.0] * 3,
    }
    assert all(p.dtype == torch.float32 for p in scalars.parameters())
    assert scalars.length_reference == 64


def test_one_head() -> None:
    assert InhibitorScalars(1).gamma.shape == (1,)


def test_given_values_survive_a_reset() -> None:
    scalars = InhibitorScalars(2, gamma=0.7, eta=0.9, delta=-0.1, length_exponent=0.75, length_reference=128)
    with torch.no_grad():
        for parameter in scalars.parameters():
            parameter.fill_(9.0)
    scalars.reset_parameters()
    values = [getattr(scalars, name)[0].item() for name in NAMES]
    assert values == pytest.approx([0.7, 0.9, -0.1, 0.75])
    assert scalars.as_arguments()["length_reference"] == 128


def test_arguments_are_the_parameters_themselves() -> None:
    scalars = InhibitorScalars(3)
    arguments = scalars.as_arguments()
    assert set(arguments) == {*NAMES, "length_reference"}
    assert all(arguments[name] is getattr(scalars, name) for name in NAMES)
    expected = inhibitor_attention(**qkv(), delta=0.5)
    assert torch.equal(inhibitor_attention(**qkv(), **arguments), expected)


def test_state_dict_round_trip() -> None:
    trained, fresh = InhibitorScalars(3), InhibitorScalars(3)
    for parameter in trained.parameters():
        nn.init.normal_(parameter)
    assert list(trained.state_dict()) == NAMES
    fresh.load_state_dict(trained.state_dict())
    assert all(torch.equal(getattr(fresh, name), getattr(trained, name)) for name in NAMES)
    with pytest.raises(RuntimeError, match="size mismatch"):
        InhibitorScalars(4).load_state_dict(trained.state_dict())


def test_gradients_flow_for_negative_values() -> None:
    scalars = InhibitorScalars(3, gamma=-0.6, eta=-1.0, delta=-0.3, length_exponent=-0.5)
    inhibitor_attention(**qkv(), **scalars.as_arguments()).square().sum().backward()
    for name in NAMES:
        gradient = getattr(scalars, name).grad
        assert gradient.isfinite().all(), name
        assert (gradient != 0).all(), name


@pytest.mark.parametrize("engine", ["reference", "auto"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_stay_float32_under_autocast(dtype: torch.dtype, engine: str) -> None:
    scalars, projection = InhibitorScalars(3), nn.Linear(3, 3)
    inputs = qkv()
    with torch.autocast("cpu", dtype=dtype):
        query, key, value = projection(inputs["query"]), projection(inputs["key"]), inputs["value"].to(dtype)
        output = inhibitor_attention(query, key, value, **scalars.as_arguments(), engine=engine)
    assert output.dtype == query.dtype == dtype
    in_float32 = inhibitor_attention(query.float(), key.float(), value.float(), **scalars.as_arguments(), engine=engine)
    assert torch.equal(output, in_float32.to(dtype))
    output.float().square().sum().backward()
    for parameter in scalars.parameters():
        assert parameter.dtype == parameter.grad.dtype == torch.float32
        assert parameter.grad.isfinite().all()
    assert projection.weight.grad is not None


def test_a_step_of_training_moves_all_of_them() -> None:
    scalars = InhibitorScalars(3)
    optimizer = torch.optim.SGD(scalars.parameters(), lr=1e-3)
    inhibitor_attention(**qkv(), **scalars.as_arguments()).square().sum().backward()
    optimizer.step()
    for name, initial in zip(NAMES, (1.0, 1.0, 0.5, 0.0), strict=True):
        assert (getattr(scalars, name) != initial).all(), name


def test_can_be_built_without_memory() -> None:
    with torch.device("meta"):
        scalars = InhibitorScalars(3)
    scalars.to_empty(device="cpu").reset_parameters()
    assert scalars.delta.tolist() == [0.5] * 3


@pytest.mark.parametrize("heads", [0, -1])
def test_needs_a_head(heads: int) -> None:
    with pytest.raises(ValueError, match=f"heads must be at least 1, got {heads}"):
        InhibitorScalars(heads)


def test_shows_what_it_holds() -> None:
    assert repr(InhibitorScalars(3)) == "InhibitorScalars(heads=3, length_reference=64)"
