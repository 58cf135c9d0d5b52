"""The range that 8 bits should cover: all values, or fewer if clipping the rare ones costs less than coarser levels."""

from __future__ import annotations

import torch
from torch import Tensor

SHRINKS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)
_SAMPLE_ROWS = 1024


class InputRange:
    """Watches the inputs of a linear layer: their least and greatest value, and a sample for the mean squared error."""

    def __init__(self) -> None:
        self.low, self.high = 0.0, 0.0
        self._rows: list[Tensor] = []
        self._kept = 0

    def add(self, rows: Tensor) -> None:
        """rows: (tokens, features). Raises ValueError if they are not finite."""
        low, high = float(rows.min()), float(rows.max())
        if not (abs(low) < float("inf") and abs(high) < float("inf")):
            raise ValueError("the model's activations are not finite")
        self.low, self.high = min(self.low, low), max(self.high, high)
        if self._kept < _SAMPLE_ROWS:
            some = rows[:: max(rows.shape[0] // 128, 1)][: _SAMPLE_ROWS - self._kept]
            self._rows.append(some.detach().clone())
            self._kept += some.shape[0]

    def best(self) -> tuple[float, float]:
        """(low, high) with the least mean squared error on the sample. Raises ValueError if nothing was seen."""
        if not self._rows:
            raise ValueError("no inputs were seen")
        sample = torch.cat(self._rows)
        ranges = [(self.low * a, self.high * b) for a in SHRINKS for b in (a, 1.0) if a < 1.0 or b == 1.0]
        return min(ranges, key=lambda r: _error(sample, *r))


def _error(x: Tensor, low: float, high: float) -> float:
    scale = max(high - low, 1e-12) / 255
    zero = round(-low / scale)
    level = (x / scale).round().add_(zero).clamp_(0, 255)
    return float(((level - zero) * scale - x).square().mean())
