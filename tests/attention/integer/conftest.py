"""What several tests of integer attention start from."""

from __future__ import annotations

import pytest
import torch

from inhibitor_transformers.attention.integer import QuantParams


@pytest.fixture
def layer():
    """(q, k, v, qparams) of 4 query heads on 2 key/value heads."""
    torch.manual_seed(0)
    q, k, v = torch.randn(2, 4, 9, 16), torch.randn(2, 2, 12, 16), torch.randn(2, 2, 12, 8)
    scalars = {name: torch.rand(4) + 0.1 for name in ("gamma", "eta", "delta", "length_exponent")}
    return q, k, v, QuantParams.from_tensors(q, k, v, **scalars)
