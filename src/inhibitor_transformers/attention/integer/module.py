"""`QuantParams` as part of a model: buffers that are saved, loaded and moved with it."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import torch
from torch import Tensor, nn

from ..saved_tensors import TensorVersions
from ..transforms import is_plain
from .functional import integer_attention, integer_scores
from .qparams import Bits, QuantParams

_INTEGERS = ("source", "sign", "delta", "shift")


class QuantizedScalars(nn.Module):
    """The quantization parameters of one attention layer; takes the place of `InhibitorScalars`.

    Args:
        heads, kv_heads, dim: sizes of the layer; the buffers are empty until loaded or `assign`ed.
        features: after splitting, at least `dim`; None: none is split.
        bits: 3 to 6, 8 or 16.
        length_reference: n₀, in keys.
    """

    def __init__(
        self,
        heads: int,
        kv_heads: int,
        dim: int,
        *,
        features: int | None = None,
        bits: Bits = 8,
        length_reference: float = 64.0,
    ) -> None:
        super().__init__()
        self.bits, self.length_reference = bits, length_reference
        self._qparams: tuple[TensorVersions, QuantParams] | None = None
        features = dim if features is None else features
        shapes = {"offset": (kv_heads, features), "source": (kv_heads, features - dim), "inverse_step": (kv_heads,)}
        for field in fields(QuantParams):
            if field.name in ("bits", "length_reference"):
                continue
            shape = shapes.get(field.name, (heads,))
            dtype = torch.int32 if field.name in _INTEGERS else torch.float32
            self.register_buffer(field.name, torch.zeros(shape, dtype=dtype))

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        need_scores: bool = False,
        dropout_p: float = 0.0,
        **options: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """`integer_attention` with these parameters, and `integer_scores` if they are needed: as `InhibitorScalars`.

        Raises ValueError for dropout, besides what `integer_attention` raises.
        """
        if dropout_p:
            raise ValueError("a quantized model cannot be trained: call model.eval()")
        qparams = self.qparams
        output = integer_attention(query, key, value, qparams, **options)
        if not need_scores:
            return output, None
        return output, integer_scores(query, key, qparams, **{n: o for n, o in options.items() if n != "signed"})

    def assign(self, qparams: QuantParams) -> None:
        """Copy `qparams` into the buffers. Raises ValueError for other bits or n₀, RuntimeError for other sizes."""
        if (qparams.bits, qparams.length_reference) != (self.bits, self.length_reference):
            raise ValueError(
                f"the layer has {self.bits} bits and n₀ = {self.length_reference}, the QuantParams have others"
            )
        for name, buffer in self.named_buffers():
            buffer.copy_(getattr(qparams, name))

    @property
    def qparams(self) -> QuantParams:
        """The buffers, checked. Raises ValueError if they hold what would not be exact (or nothing yet)."""
        values: dict[str, Any] = self._buffers
        if not torch.compiler.is_compiling() and self._qparams is not None:
            versions, known = self._qparams
            if versions.match(*values.values()):
                return known
        # Moved to another device, loaded, changed, or in exchange for a call (torch.func.functional_call).
        made = QuantParams(bits=self.bits, length_reference=self.length_reference, **values)
        if is_plain(*values.values()):  # only then was all of it checked
            self._qparams = TensorVersions(*values.values()), made
        return made

    def __getstate__(self) -> dict[str, Any]:  # copies and pickles check their own buffers
        return self.__dict__ | {"_qparams": None}

    def extra_repr(self) -> str:
        offset: Tensor = self.offset  # type: ignore[assignment]
        return f"heads={self.scale.shape[0]}, (kv_heads, features)={tuple(offset.shape)}, bits={self.bits}"  # type: ignore[index]
