"""A linear layer with 8-bit weights and inputs; the product is oneDNN's, through torch."""

from __future__ import annotations

import platform
import weakref
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...attention.integer.functional import without_gradient
from ...attention.integer.quantize import UINT8_QMAX, quantize_uint8
from ...attention.saved_tensors import TensorVersions
from ...attention.transforms import is_plain, is_recorded

_LARGEST_WEIGHT = 127
_EXACT_IN_FLOAT32 = 1 << 24  # whole numbers up to it


@cache
def has_onednn() -> bool:
    """Whether oneDNN multiplies integers here, and exactly: on x86 with VNNI, but for the unusual build of torch."""
    there = "onednn" in torch.backends.quantized.supported_engines and platform.machine() in ("x86_64", "AMD64")
    return there and _sums_are_exact()


def _sums_are_exact() -> bool:
    """Without VNNI (AVX2 alone) two products are added in 16 bits, where large ones saturate: silently wrong."""
    x, weight = (
        torch.full((8, 64), UINT8_QMAX, dtype=torch.uint8),
        torch.full((16, 64), _LARGEST_WEIGHT, dtype=torch.int8),
    )
    packed = torch.ops.onednn.qlinear_prepack(weight, None)
    scales, zeros = torch.ones(16), torch.zeros(16, dtype=torch.int64)
    output: Any = (1.0, 0, torch.float32, "none", [], "")
    found = torch.ops.onednn.qlinear_pointwise(x, 1.0, 0, packed, scales, zeros, None, *output)
    return torch.equal(found, torch.full_like(found, 64 * UINT8_QMAX * _LARGEST_WEIGHT))


class _Read(NamedTuple):
    """A tensor, quantized, and the layers that have read it."""

    source: weakref.ref[Tensor]
    version: int | None
    inverse_step: Tensor
    zero_point: int
    quantized: Tensor
    readers: set[int]

    def serves(self, reader: nn.Module, x: Tensor, inverse_step: Tensor, zero_point: int) -> bool:
        # A reader that comes back reads anew: the tensor may have been changed since without torch's knowing it.
        same = self.source() is x and _version(x) == self.version and id(reader) not in self.readers
        return same and self.zero_point == zero_point and torch.equal(self.inverse_step, inverse_step)


def _version(x: Tensor) -> int | None:
    """How often the tensor was changed in place; torch does not count the changes of one made in inference mode."""
    return None if x.is_inference() else x._version


def _has_hooks(reader: nn.Module) -> bool:
    """Whether a hook sees the reader's input, and could change it between two readers."""
    everywhere = nn.modules.module
    return bool(
        reader._forward_pre_hooks
        or reader._forward_hooks
        or everywhere._global_forward_pre_hooks
        or everywhere._global_forward_hooks
    )


class SharedInput:
    """One tensor, quantized once for all layers that read it: queries, keys and values."""

    def __init__(self, readers: int = 1) -> None:
        self.readers = readers
        self._last: _Read | None = None

    def quantize(self, reader: nn.Module, x: Tensor, inverse_step: Tensor, zero_point: int) -> Tensor:
        """`quantize_uint8` of `x`, computed for the first reader and handed to the others while `x` is unchanged."""
        if self.readers == 1 or not is_plain(x) or (x.is_inference() and _has_hooks(reader)):
            self._last = None
            return quantize_uint8(x, inverse_step, zero_point)
        last = self._last
        if last is None or not last.serves(reader, x, inverse_step, zero_point):
            read = quantize_uint8(x, inverse_step, zero_point)
            last = _Read(weakref.ref(x), _version(x), inverse_step, zero_point, read, set())
        last.readers.add(id(reader))
        self._last = last if len(last.readers) < self.readers else None
        return last.quantized

    def __reduce__(self) -> tuple[type[SharedInput], tuple[int]]:
        return SharedInput, (self.readers,)


class Int8Linear(nn.Module):
    """y = s·Σ(x̂ − zero)·ŵ + b with one scale per output and one per input feature, which the weights take over.

    Features of very different sizes would share one step badly; so each has its own, x̂ = rint(x/step) + zero, and ŵ are
    w·step in 8 bits (the idea of SmoothQuant, arXiv 2211.10438, without a layer before that has to be changed).

    The inputs' steps are fixed when the layer is made, so that a token's output is bit-exact whatever padding
    and other sequences are in its batch. On x86 with VNNI sums run in integers (oneDNN); on other
    processors in float32 or, for more than 518 features, in float64, both exactly; on a GPU in float32.

    Args:
        in_features, out_features, bias: as in nn.Linear; the buffers are empty until loaded or made by `from_linear`.
    """

    weight: Tensor
    weight_scale: Tensor
    input_step: Tensor
    input_zero_point: Tensor
    bias: Tensor | None

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.register_buffer("weight", torch.zeros((out_features, in_features), dtype=torch.int8))
        self.register_buffer("weight_scale", torch.ones(out_features))
        self.register_buffer("input_step", torch.ones(in_features))
        self.register_buffer("input_zero_point", torch.zeros((), dtype=torch.int32))
        self.register_buffer("bias", torch.zeros(out_features) if bias else None)
        self.shared = SharedInput()
        self._packed: _Packed | None = None

    @classmethod
    def from_linear(cls, linear: nn.Linear, low: float, high: float, sizes: Tensor | None = None) -> Int8Linear:
        """The layer for inputs in [low, high], or where `sizes` (in_features,) are given in [low, high] times these.

        What lies outside is clipped. Raises ValueError for an empty range.
        """
        low, high = min(low, 0.0), max(high, 0.0)  # zero is exact: padding and ReLU stay exact
        if not 0.0 < high - low < float("inf"):
            raise ValueError(f"a range of inputs must be finite and not empty, got [{low}, {high}]")
        layer = cls(linear.in_features, linear.out_features, linear.bias is not None)
        layer.input_step = (torch.ones(linear.in_features) if sizes is None else sizes.float()) * (
            (high - low) / UINT8_QMAX
        )
        weight = linear.weight.detach().float().cpu() * layer.input_step
        layer.weight_scale = (weight.abs().amax(1) / _LARGEST_WEIGHT).clamp_min(torch.finfo(torch.float32).tiny)
        layer.weight = (weight / layer.weight_scale[:, None]).round().to(torch.int8)
        zero = round(-low / (high - low) * UINT8_QMAX)
        layer.input_zero_point = torch.tensor(min(max(zero, 0), UINT8_QMAX), dtype=torch.int32)
        layer.bias = None if linear.bias is None else linear.bias.detach().float().cpu().clone()
        return layer

    def forward(self, x: Tensor | Callable[[_Packed], Tensor], reader: _Packed | None = None) -> Tensor:
        """(…, in_features) float32 to (…, out_features) float32.

        Two layers may hand each other 8-bit values, each reading its own buffers in its own call: x is then a function
        of this layer's packed steps that gives them (uint8); reader has those of the layer that comes next, for
        whose 8-bit input, after GELU, this layer's output is taken.
        """
        packed = self._pack()
        read = self._quantize(packed, x) if isinstance(x, Tensor) else x(packed)
        if reader is not None:
            return packed.product_for(self, reader, read)
        output = packed.product(self, read)
        return without_gradient(output, x) if isinstance(x, Tensor) else output

    def quantize_input(self, x: Tensor) -> Tensor:
        """(…, in_features) float32 to uint8."""
        return self._quantize(self._pack(), x)

    def product(self, x: Tensor) -> Tensor:
        """(…, in_features) uint8 to (…, out_features) float32."""
        return self._pack().product(self, x)

    def _quantize(self, packed: _Packed, x: Tensor) -> Tensor:
        return self.shared.quantize(self, x, packed.inverse_step, packed.zero_point)

    def _pack(self) -> _Packed:
        """Weights in the layout of the kernels, made on first use and anew when a buffer is another or has changed."""
        if torch.compiler.is_exporting() or (is_recorded() and not torch.compiler.is_compiling()):
            raise ValueError(
                "a quantized model cannot be traced: inhibit export writes it, or take the model that it was made from"
            )
        made_of = (self.weight, self.input_step, self.input_zero_point)
        if self._packed is None or not self._packed.versions.match(*made_of):
            packed = _Packed(self, TensorVersions(*made_of))
            if not is_plain(*made_of):  # what is made inside a transform does not outlive it
                return packed
            self._packed = packed
        return self._packed

    def __getstate__(self) -> dict[str, Any]:  # copies and pickles pack for themselves
        return self.__dict__ | {"_packed": None}

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class _Packed:
    """A layer's weights in the kernels' layout, with what every call needs."""

    def __init__(self, layer: Int8Linear, versions: TensorVersions) -> None:
        self.versions = versions
        self.inverse_step, self.zero_point = 1.0 / layer.input_step, int(layer.input_zero_point)
        first = float(layer.input_step[0])
        self.step = first if bool((layer.input_step == first).all()) else None  # what oneDNN can write for this layer
        self.zero_points = torch.zeros(layer.out_features, dtype=torch.int64)
        self.weight: Tensor | None = None
        if layer.weight.device.type == "cpu" and has_onednn():
            self.weight = torch.ops.onednn.qlinear_prepack(layer.weight, None)

    def product(self, layer: Int8Linear, x: Tensor) -> Tensor:
        if self.weight is None:
            return self.in_float(layer, x)
        return self.onednn(layer, x, 1.0, 0, torch.float32, "none")

    def product_for(self, layer: Int8Linear, reader: _Packed, x: Tensor) -> Tensor:
        """Output in 8 bits, which fits the cache where float32 would not."""
        if self.weight is None or reader.step is None:
            return quantize_uint8(F.gelu(self.product(layer, x)), reader.inverse_step, reader.zero_point)
        return self.onednn(layer, x, reader.step, reader.zero_point, torch.uint8, "gelu")

    def onednn(self, layer: Int8Linear, x: Tensor, step: float, zero: int, dtype: torch.dtype, post_op: str) -> Tensor:
        out: Tensor = torch.ops.onednn.qlinear_pointwise(
            *(x, 1.0, self.zero_point),
            *(self.weight, layer.weight_scale, self.zero_points, layer.bias),
            *(step, zero, dtype, post_op, [], "none" if post_op == "gelu" else ""),
        )
        return out

    def in_float(self, layer: Int8Linear, x: Tensor) -> Tensor:
        # Sums of integers that the type holds are exact, and so the same in every batch. GPUs are slow at float64.
        fits = layer.in_features * UINT8_QMAX * _LARGEST_WEIGHT <= _EXACT_IN_FLOAT32
        kind = torch.float32 if fits or x.device.type != "cpu" else torch.float64
        y = F.linear(x.to(kind) - self.zero_point, layer.weight.to(kind)).float() * layer.weight_scale
        return y if layer.bias is None else y + layer.bias


class Int8FeedForward(nn.Module):
    """The feed-forward part of a transformer layer, GELU between two `Int8Linear`s, whose middle stays in 8 bits."""

    def __init__(self, lin1: Int8Linear, lin2: Int8Linear) -> None:
        super().__init__()
        self.lin1, self.lin2 = lin1, lin2

    def forward(self, x: Tensor) -> Tensor:
        """(…, dim) float32 to (…, dim) float32."""
        return without_gradient(self.lin2(lambda reader: self.lin1(x, reader)), x)
