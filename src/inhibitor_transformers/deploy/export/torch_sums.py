"""The sums of plain attention as Manhattan distances: torch's `cdist`, which never holds N × N × D numbers.

    shrink(v, z) = v − (|v + z| − |v − z|) / 2   (signed),   v − (v + z − |v − z|) / 2   (unsigned)

turns Σ_j shrink(v_jk, z_ij) into distances over the keys, between the rows of z and the columns of v.
"""

from __future__ import annotations

import torch
from torch import Tensor


def torch_sums(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    valid: Tensor,
    share: Tensor,
    slope: Tensor,
    shift: Tensor,
    signed: bool,
) -> Tensor:
    """As `plain.ShrunkenSums`."""
    members = valid[:, None, :, None]
    key, value = key.where(members, 0.0), value.where(members, 0.0)
    # What follows takes large sums from each other; in float64 that costs no digits, and hardly any time.
    distance, columns = torch.cdist(query, key, p=1.0).double(), value.double().transpose(-1, -2)
    centered = distance - distance @ share.double()[:, None, :, None]
    z = torch.relu(centered * slope[:, None, None] + shift[:, None, None])
    total, near = columns.sum(-1).unsqueeze(-2), torch.cdist(z, columns, p=1.0)
    far = torch.cdist(z, -columns, p=1.0) if signed else total + z.sum(-1, keepdim=True)
    return (total - (far - near) / 2).to(query.dtype)
