"""Chooses the range that 8 bits cover: all values, or fewer where clipping costs less than coarse steps."""

from __future__ import annotations

import torch
from torch import Tensor

SHRINKS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)
# α of SmoothQuant (arXiv 2211.10438): how much of the differences among input features the inputs' steps take, the
# rest being left to the weights. By trial, between 0.3 and 0.85, on a MiniLM student's hidden states.
MIGRATION_STRENGTH = 0.7
_SAMPLE_ROWS = 1024


class InputRange:
    """Watches the inputs of a linear layer: each feature's least and greatest value, and a sample of rows."""

    def __init__(self) -> None:
        self.low: Tensor | None = None
        self.high: Tensor | None = None
        self._rows: list[Tensor] = []
        self._kept = 0

    def add(self, rows: Tensor) -> None:
        """rows: (tokens, features). Raises ValueError if they are not finite."""
        low, high = rows.amin(0), rows.amax(0)
        if not bool((low.isfinite() & high.isfinite()).all()):
            raise ValueError("the model's activations are not finite")
        self.low = low if self.low is None else torch.minimum(self.low, low)
        self.high = high if self.high is None else torch.maximum(self.high, high)
        if self._kept < _SAMPLE_ROWS:
            some = rows[:: max(rows.shape[0] // 128, 1)][: _SAMPLE_ROWS - self._kept]
            self._rows.append(some.detach().clone())
            self._kept += some.shape[0]

    def sizes(self, weight: Tensor) -> Tensor:
        """(features,): sizes by which inputs are divided and the weights (outputs, features) multiplied."""
        if self.low is None or self.high is None:
            raise ValueError("no inputs were seen")
        inputs = torch.maximum(-self.low, self.high).clamp_min(1e-5)
        return inputs**MIGRATION_STRENGTH / weight.abs().amax(0).clamp_min(1e-5) ** (1 - MIGRATION_STRENGTH)

    def best(self, sizes: Tensor | None = None) -> tuple[float, float]:
        """(low, high) of the inputs over `sizes` with the least mean squared error on the sample.

        Raises ValueError if nothing was seen.
        """
        if self.low is None or self.high is None:
            raise ValueError("no inputs were seen")
        sizes = torch.ones_like(self.low) if sizes is None else sizes
        low, high = min(float((self.low / sizes).min()), 0.0), max(float((self.high / sizes).max()), 0.0)
        sample = torch.cat(self._rows) / sizes
        ranges = [(low * a, high * b) for a in SHRINKS for b in (a, 1.0) if a < 1.0 or b == 1.0]
        return min(ranges, key=lambda r: _error(sample, *r))


def _error(x: Tensor, low: float, high: float) -> float:
    scale = max(high - low, 1e-12) / 255
    zero = round(-low / scale)
    quantized = (x / scale).round().add_(zero).clamp_(0, 255)
    return float(((quantized - zero) * scale - x).square().mean())
