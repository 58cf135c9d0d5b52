"""Times one set of inputs: torch's attention, the operation, and the plain formulations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, reduce

import agreement
import baselines
import torch
from inputs import Inputs, half_valid, inactive_fraction
from timing import Budget, Sides, Times, interleave
from torch import Tensor

from inhibitor_transformers.attention.cpu import library
from inhibitor_transformers.attention.integer import QuantParams, integer_attention

NAIVE_ELEMENTS = 1 << 29  # the broadcast formulation holds several float tensors of B·H·N²·D elements
LONG_CALL = 1 << 30  # element operations from which on one call of torch.cdist takes seconds
UNCENTERED = "uncentered"


@dataclass(frozen=True)
class Effort:
    """Seconds for each set of sides, rounds that are made in any case, and whether the slow formulations run."""

    seconds: float = 3.0
    rounds: int = 7
    slow: bool = True

    def budget(self) -> Budget:
        return Budget(self.rounds, self.seconds)


@dataclass(frozen=True)
class Measurement:
    """Of one layer; the sum of two is that of one after the other, the inactive fraction their mean."""

    shape: tuple[int, ...]
    layers: int
    inactive: float
    forward: Times
    both: Times

    @property
    def elements(self) -> int:
        """Element operations of the dense forward pass."""
        return self.layers * element_operations(self.shape)

    def __add__(self, other: Measurement) -> Measurement:
        layers = self.layers + other.layers
        inactive = (self.inactive * self.layers + other.inactive * other.layers) / layers
        forward = {name: times + other.forward[name] for name, times in self.forward.items()}
        both = {name: times + other.both[name] for name, times in self.both.items()}
        return Measurement(self.shape, layers, inactive, forward, both)


def total(layers: list[Measurement]) -> Measurement:
    """All layers, one after the other."""
    return reduce(lambda a, b: a + b, layers)


def element_operations(shape: tuple[int, ...]) -> int:
    """One for every (query, key, feature) of the distances, one for every (query, key, feature) of the sums."""
    batch, heads, length, dim = shape
    return 2 * batch * heads * length * length * dim


def measure(inputs: Inputs, effort: Effort) -> Measurement:
    """Sides `sdpa`, `ours` (both also with half of each row padding), `bfloat16`, `cdist` and `naive`."""
    shape = tuple(inputs.query.shape)
    half = half_valid(shape[0], shape[2])
    lower = tuple(t.bfloat16() for t in inputs.qkv)
    forward: Sides = {
        **integer_calls(inputs),
        **{f"{name} half": call for name, call in integer_calls(inputs, half).items()},
        "sdpa": forward_call(baselines.softmax, inputs),
        "ours": forward_call(baselines.fused, inputs),
        "sdpa half": forward_call(baselines.softmax, inputs, half),
        "ours half": forward_call(baselines.fused, inputs, half),
        "bfloat16": forward_call(baselines.softmax, Inputs(*lower, inputs.scalars)),
    }
    both: Sides = {
        "sdpa": training_call(baselines.softmax, inputs),
        "ours": training_call(baselines.fused, inputs),
        "sdpa half": training_call(baselines.softmax, inputs, half),
        "ours half": training_call(baselines.fused, inputs, half),
    }
    slow_forward, slow_both = _slow(inputs) if effort.slow else ({}, {})
    require_right(forward | slow_forward, both | slow_both, inputs)
    # The plain formulations run by themselves: they empty the caches for whoever comes next.
    few = Budget(1, effort.seconds / 2, most=3, warm_up=element_operations(shape) < LONG_CALL)
    return Measurement(
        shape=shape,
        layers=1,
        inactive=inactive_fraction(inputs),
        forward=interleave(forward, effort.budget()) | interleave(slow_forward, few),
        both=interleave(both, effort.budget()) | interleave(slow_both, few),
    )


def measure_long(inputs: Inputs, effort: Effort) -> tuple[Times, Times]:
    """Forward, and forward + backward, of sides `sdpa` and `ours`: others take too long or too much memory."""
    sides = {"sdpa": baselines.softmax, "ours": baselines.fused}
    forward: Sides = {name: forward_call(side, inputs) for name, side in sides.items()}
    both: Sides = {name: training_call(side, inputs) for name, side in sides.items()}
    require_right(forward, {}, inputs)
    for name, side in sides.items():
        require_gradients_of_first_queries(name, side, inputs)
    return interleave(forward, effort.budget()), interleave(both, effort.budget())


def measure_instruction_sets(inputs: Inputs, effort: Effort) -> Measurement:
    """Sides `sdpa` and one for every instruction set that the machine has."""
    names, softmax = library.load().isas, forward_call(baselines.softmax, inputs)
    forward = {"sdpa": softmax} | _with_each(names, forward_call(baselines.fused, inputs))
    for kind, call in integer_calls(inputs).items():
        forward |= {f"{kind} {name}": chosen for name, chosen in _with_each(names, call).items()}
    both = {"sdpa": training_call(baselines.softmax, inputs)} | _with_each(
        names, training_call(baselines.fused, inputs)
    )
    require_right(forward, both, inputs)
    return Measurement(
        shape=tuple(inputs.query.shape),
        layers=1,
        inactive=inactive_fraction(inputs),
        forward=interleave(forward, effort.budget()),
        both=interleave(both, effort.budget()),
    )


def require_right(forward: Sides, both: Sides, inputs: Inputs) -> None:
    """Raise SystemExit unless each side computes the operation of its name: softmax, or inhibitor attention.

    Floats are compared with float64 (the gradients of q, k and v too), integers bit for bit with their reference.
    """
    half = half_valid(inputs.query.shape[0], inputs.query.shape[2])
    lower = Inputs(*(t.bfloat16() for t in inputs.qkv), inputs.scalars)
    for name, call in forward.items():
        valid = half if name.endswith(" half") else None
        found = agreement.first_of(call())
        if name.startswith("int"):
            bits, center = int(name.split()[0].removeprefix("int")), "none" if UNCENTERED in name else "mean"
            agreement.require_close(name, found, _integers_of(inputs, valid, bits, center), 0.0)
        elif name == "bfloat16":
            agreement.require_close(name, found, agreement.softmax_of(lower, valid), agreement.HALF)
        else:
            right = agreement.softmax_of if name.startswith("sdpa") else agreement.inhibitor_of
            tolerance = agreement.ROUNDED if name == "cdist" else agreement.FLOAT32
            agreement.require_close(name, found, right(inputs, valid), tolerance)
    for name, call in both.items():
        valid = half if name.endswith(" half") else None
        side = baselines.softmax if name.startswith("sdpa") else baselines.reference
        expected = agreement.gradients_of(side, inputs, _grad(inputs.query), valid)
        for which, found, right in zip("qkv", call()[:3], expected, strict=True):
            agreement.require_close(f"{name}, gradient of {which}", found[:1, :1], right, agreement.ROUNDED)


def require_gradients_of_first_queries(name: str, side: baselines.Attention, inputs: Inputs) -> None:
    """Raise SystemExit unless what the first queries pass back is right; float64 of all queries would take minutes."""
    first, grad = slice(agreement.QUERIES), torch.zeros_like(inputs.query)
    grad[:, :, first] = _grad(grad[:, :, first])
    of_query, *others = training_call(side, inputs, grad=grad)()[:3]
    right = baselines.softmax if side is baselines.softmax else baselines.reference
    few = inputs._replace(query=inputs.query[:, :, first])
    expected = agreement.gradients_of(right, few, grad[:, :, first], None)
    for which, found, there in zip("qkv", (of_query[:, :, first], *others), expected, strict=True):
        agreement.require_close(f"{name}, gradient of {which}", found[:1, :1], there, agreement.ROUNDED)


def _integers_of(inputs: Inputs, valid: Tensor | None, bits: int, center: str) -> Tensor:
    q, k, v, scalars = inputs
    qparams = QuantParams.from_tensors(q, k, v, **scalars, bits=bits)
    mask = None if valid is None else valid[:1]
    first = (q[:1, :, : agreement.QUERIES], k[:1], v[:1])
    return integer_attention(*first, qparams, key_padding_mask=mask, center=center, engine="reference")


def _grad(query: Tensor) -> Tensor:
    """What is propagated back, the same for every side."""
    return torch.randn(query.shape, generator=torch.Generator().manual_seed(0))


def forward_call(side: baselines.Attention, inputs: Inputs, valid: Tensor | None = None) -> Callable[[], object]:
    q, k, v, scalars = inputs
    return partial(torch.no_grad()(side), q, k, v, valid, scalars)


def integer_calls(inputs: Inputs, valid: Tensor | None = None) -> Sides:
    """Sides `int8`, `int16` and `int8 uncentered`, quantizing included; parameters are chosen beforehand."""
    q, k, v, scalars = inputs
    calls: Sides = {}
    for bits in (8, 16):
        qparams = QuantParams.from_tensors(q, k, v, **scalars, bits=bits)
        attend = partial(torch.no_grad()(integer_attention), q, k, v, qparams, key_padding_mask=valid, engine="cpu")
        calls[f"int{bits}"] = attend
        if bits == 8:
            calls[f"int8 {UNCENTERED}"] = partial(attend, center="none")
    return calls


def training_call(
    side: baselines.Attention, inputs: Inputs, valid: Tensor | None = None, grad: Tensor | None = None
) -> Callable[[], tuple[Tensor, ...]]:
    """Forward and backward, of `grad` if given; the scalars are trained too where there are any."""
    q, k, v = (t.detach().clone().requires_grad_() for t in inputs.qkv)
    scalars = {name: t.detach().clone().requires_grad_() for name, t in inputs.scalars.items()}
    leaves = [q, k, v] if side is baselines.softmax else [q, k, v, *scalars.values()]
    grad = _grad(q) if grad is None else grad
    return lambda: torch.autograd.grad(side(q, k, v, valid, scalars), leaves, grad)


def _slow(inputs: Inputs) -> tuple[Sides, Sides]:
    forward: Sides = {"cdist": forward_call(baselines.cdist, inputs)}
    if element_operations(tuple(inputs.query.shape)) <= NAIVE_ELEMENTS:
        forward["naive"] = forward_call(baselines.naive, inputs)
    return forward, {"cdist": training_call(baselines.cdist, inputs)}


def _with_each(names: list[str], call: Callable[[], object]) -> Sides:
    """The choice is made before every call; it is a comparison of names, too short to be seen."""
    kernels = library.load()

    def chosen(name: str) -> object:
        kernels.use_isa(name)
        return call()

    return {name: partial(chosen, name) for name in names}
