"""8-bit linear layers: the integers they compute, and that a row depends on itself alone."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from inhibitor_transformers.models.quantized import linear as linear_module
from inhibitor_transformers.models.quantized.linear import Int8FeedForward, Int8Linear, SharedInput


def made(inputs=40, outputs=24, *, bias=True, low=-3.0, high=4.0, seed=0) -> tuple[nn.Linear, Int8Linear]:
    torch.manual_seed(seed)
    linear = nn.Linear(inputs, outputs, bias)
    return linear, Int8Linear.from_linear(linear, low, high)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("size", [(5,), (1, 7), (2, 3, 5)])
def test_the_product_is_that_of_the_integers(bias, size):
    _, layer = made(bias=bias)
    x = torch.randn(*size, 40) * 2
    quantized = layer.quantize_input(x)
    assert quantized.dtype == torch.uint8
    whole = (quantized.long() - layer.input_zero_point.long()) @ layer.weight.long().T
    expected = whole.double() * layer.weight_scale.double()
    expected += 0 if layer.bias is None else layer.bias.double()
    assert torch.allclose(layer(x).double(), expected, rtol=1e-5, atol=1e-5)


def test_near_the_float_layer():
    linear, layer = made(256, 64)
    x = torch.randn(100, 256).clamp(-3, 4)
    error = (layer(x) - linear(x)).norm() / linear(x).norm()
    assert error < 0.02


@torch.no_grad()
def test_features_of_different_sizes():
    torch.manual_seed(0)
    linear, sizes = nn.Linear(256, 64), torch.logspace(-2, 1, 256)
    x = torch.randn(100, 256).clamp(-3, 3) * sizes
    error = {}
    for name, own in (("one step", None), ("own steps", sizes)):
        high = float((x if own is None else x / own).abs().max())
        layer = Int8Linear.from_linear(linear, -high, high, own)
        error[name] = float((layer(x) - linear(x)).norm() / linear(x).norm())
    assert error["own steps"] < 0.02
    small = nn.Linear(256, 64)  # where the small features count
    small.weight.data = linear.weight.data / sizes
    exact = small(x)
    ours = Int8Linear.from_linear(small, -3.0, 3.0, sizes)(x)
    theirs = Int8Linear.from_linear(small, -30.0, 30.0)(x)
    assert (ours - exact).norm() < 0.1 * (theirs - exact).norm()


def test_a_row_depends_on_itself_alone():
    _, layer = made(64, 48)
    x = torch.randn(33, 64)
    together = layer(x)
    x[1:] *= 1e6
    assert torch.equal(layer(x)[0], together[0])
    for i in (0, 5, 32):
        assert torch.equal(layer(x[i : i + 1])[0], layer(x)[i])


def test_zero_stays_zero():
    _, layer = made(bias=False, low=-0.37, high=5.0)
    assert not layer(torch.zeros(3, 40)).any()
    _, positive = made(bias=False, low=1.0, high=2.0)  # zero is a level all the same
    assert not positive(torch.zeros(3, 40)).any()


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.0), (float("-inf"), 1.0), (0.0, float("nan"))])
def test_ranges_that_cannot_be(low, high):
    with pytest.raises(ValueError, match="must be finite and not empty"):
        made(low=low, high=high)


def test_saved_loaded_and_copied():
    _, layer = made()
    x = torch.randn(3, 40)
    expected = layer(x)
    other = Int8Linear(40, 24)
    other(x)  # packs the empty weights
    other.load_state_dict(layer.state_dict())
    for copied in (other, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(copied(x), expected)


def test_without_onednn(monkeypatch):
    _, layer = made()
    x = torch.randn(3, 40)
    expected = layer(x)
    monkeypatch.setattr(linear_module, "has_onednn", lambda: False)
    assert torch.allclose(copy.deepcopy(layer)(x), expected, rtol=1e-5, atol=1e-5)


def feed_forward() -> tuple[Int8FeedForward, nn.Linear, nn.Linear]:
    first, lin1 = made(32, 96, low=-4.0, high=4.0)
    second, lin2 = made(96, 32, low=-0.2, high=3.0, seed=1)
    return Int8FeedForward(lin1, lin2), first, second


def test_feed_forward_is_its_layers_with_gelu_between(monkeypatch):
    module, first, second = feed_forward()
    x = torch.randn(2, 50, 32)
    got, exact = module(x), second(F.gelu(first(x)))
    assert (got - exact).norm() / exact.norm() < 0.03
    apart = module.lin2(F.gelu(module.lin1(x)))  # the middle may round to a neighboring level
    assert (got - apart).norm() / apart.norm() < 2e-3
    monkeypatch.setattr(linear_module, "has_onednn", lambda: False)
    assert torch.allclose(copy.deepcopy(module)(x), apart, rtol=1e-4, atol=1e-4)


class TestSharedInput:
    @pytest.fixture
    def counted(self, monkeypatch) -> list:
        calls: list = []
        original = linear_module.quantize_uint8
        monkeypatch.setattr(linear_module, "quantize_uint8", lambda *a: calls.append(1) or original(*a))
        return calls

    def test_three_readers_quantize_once(self, counted):
        layers = [made(seed=i)[1] for i in range(3)]
        x = torch.randn(4, 40)
        expected = [layer(x) for layer in layers]
        shared = SharedInput(readers=3)
        for layer in layers:
            layer.shared = shared
        # Changes in inference mode are not counted, and one with a hook could change what the next one reads.
        for inference, hooked, times in ((False, False, 1), (True, False, 1), (True, True, 3), (False, False, 1)):
            handles = [layers[1].register_forward_hook(lambda *_: None)] if hooked else []
            counted.clear()
            with torch.inference_mode(inference):
                y = x * 1  # a new tensor each time, as hidden states are
                assert all(torch.equal(layer(y), e) for layer, e in zip(layers, expected, strict=True))
            assert len(counted) == times
            for handle in handles:
                handle.remove()

    def test_other_steps_are_quantized_anew(self, counted):
        _, first = made()
        _, second = made(high=9.0)
        x = torch.randn(4, 40)
        expected = [layer(x) for layer in (first, second)]
        first.shared = second.shared = SharedInput(readers=3)
        counted.clear()
        assert all(torch.equal(layer(x), e) for layer, e in zip((first, second), expected, strict=True))
        assert len(counted) == 2

    def test_a_changed_tensor_is_read_anew(self, counted):
        _, layer = made()
        layer.shared = SharedInput(readers=3)
        with torch.inference_mode():
            x = torch.randn(4, 40)
            before = layer(x)
            x.mul_(2)
            after = layer(x)
        assert len(counted) == 2
        assert not torch.equal(before, after)

    @pytest.mark.parametrize("inference", [False, True])
    def test_a_tensor_changed_between_its_readers_is_read_anew(self, inference):
        """By a hook of the second, as transformers and PEFT allow."""
        first, second = made(seed=1)[1], made(seed=2)[1]
        x = torch.randn(4, 40)
        expected = copy.deepcopy(second)(x / 2)
        first.shared = second.shared = SharedInput(readers=3)

        def halve(module, given):
            given[0].div_(2)

        second.register_forward_pre_hook(halve)
        with torch.inference_mode(inference):
            y = x * 1
            first(y)
            assert torch.equal(second(y), expected)


CHANGES = {
    "weight": lambda t: t.neg_(),
    "weight_scale": lambda t: t.mul_(3),
    "input_step": lambda t: t.mul_(3),
    "input_zero_point": lambda t: t.add_(40),
    "bias": lambda t: t.add_(1),
}


@pytest.fixture(params=[True, False], ids=["oneDNN", "floats"])
def _products(request, monkeypatch) -> None:
    if not request.param:
        monkeypatch.setattr(linear_module, "has_onednn", lambda: False)


@pytest.mark.usefixtures("_products")
class TestBuffersThatChange:
    """After a first call, which packs them: what others hold, average, broadcast or put in."""

    @pytest.mark.parametrize("name", CHANGES)
    @pytest.mark.parametrize("inference", [False, True])
    def test_in_place(self, name, inference):
        with torch.inference_mode(inference):
            _, layer = made()
            x = 5 * torch.randn(3, 40)  # some is clipped
            before = layer(x)
            CHANGES[name](getattr(layer, name))
            assert torch.equal(layer(x), copy.deepcopy(layer)(x))
            assert not torch.equal(layer(x), before)

    def test_in_inference_mode_of_a_layer_made_outside(self):
        _, layer = made()
        x = 5 * torch.randn(3, 40)
        layer(x)
        with torch.inference_mode():
            layer.weight.neg_()
            assert torch.equal(layer(x), copy.deepcopy(layer)(x))

    @pytest.mark.parametrize("put", [setattr, lambda layer, name, t: setattr(getattr(layer, name), "data", t)])
    @pytest.mark.parametrize("name", CHANGES)
    def test_another_tensor(self, name, put):
        _, layer = made()
        x = 5 * torch.randn(3, 40)
        before = layer(x)
        put(layer, name, CHANGES[name](getattr(layer, name).clone()))
        assert torch.equal(layer(x), copy.deepcopy(layer)(x))
        assert not torch.equal(layer(x), before)

    def test_copied_from_another_layer(self):
        _, layer = made()
        _, other = made(high=9.0, seed=1)
        x = 5 * torch.randn(3, 40)
        layer(x)
        for mine, its in zip(layer.buffers(), other.buffers(), strict=True):
            mine.copy_(its)
        assert torch.equal(layer(x), other(x))

    @pytest.mark.parametrize("name", CHANGES)
    def test_in_exchange_for_a_call(self, name):
        _, layer = made()
        x = 5 * torch.randn(3, 40)
        before = layer(x)
        changed = {name: CHANGES[name](getattr(layer, name).clone())}
        found = functional_call(layer, changed, (x,))
        assert not torch.equal(found, before)
        assert torch.equal(layer(x), before)
        CHANGES[name](getattr(layer, name))
        assert torch.equal(layer(x), found)


def test_unchanged_buffers_are_packed_once(monkeypatch):
    _, layer = made()
    x = 5 * torch.randn(3, 40)
    layer(x)
    monkeypatch.setattr(linear_module, "_Packed", None)
    layer(x)


@pytest.mark.parametrize("features", [64, 518, 3072])
@pytest.mark.parametrize("onednn", [True, False])
def test_the_largest_inputs_do_not_saturate(onednn, features, monkeypatch):
    """AVX2 without VNNI adds two products in 16 bits: it once gave wrong sums without a word."""
    if not onednn:
        monkeypatch.setattr(linear_module, "has_onednn", lambda: False)
    layer = Int8Linear(features, 16, bias=False)
    layer.weight.fill_(127)
    quantized = torch.full((8, features), 255, dtype=torch.uint8)
    assert torch.equal(layer.product(quantized), torch.full((8, 16), features * 255.0 * 127))
