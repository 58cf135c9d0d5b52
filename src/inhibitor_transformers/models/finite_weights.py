"""Refuses weights that are NaN or infinite, before anything is built on them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_SHOWN = 3


def require_finite(model: nn.Module, what: str) -> None:
    """Raise ValueError naming the first parameters and saved buffers of `model` with a NaN or an infinity.

    what: the model in the message. Weights that are not loaded (on the meta device) are not looked at.
    """
    bad = [name for name, tensor in model.state_dict().items() if not _is_finite(tensor)]
    if bad:
        shown = ", ".join(bad[:_SHOWN]) + (", …" if len(bad) > _SHOWN else "")
        raise ValueError(f"{what} has weights that are NaN or infinite, in {len(bad)} tensor(s): {shown}")


def _is_finite(tensor: object) -> bool:
    if not isinstance(tensor, Tensor) or not tensor.is_floating_point() or tensor.is_meta:
        return True
    return bool(torch.isfinite(tensor if tensor.element_size() > 1 else tensor.float()).all())  # float8 cannot say
