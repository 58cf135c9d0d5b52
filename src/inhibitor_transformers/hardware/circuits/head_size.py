"""The size of a head on either side, and the arrays of integer models."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class HeadSize:
    """What both kinds of heads have.

    bits: b, of q, k and v. features: F, of q and k. values: features of v. lanes: keys of a block, a power of two.
    keys: the most that a query sees.
    """

    bits: int
    features: int
    values: int
    lanes: int = 32
    keys: int = 512

    def blocks(self, keys: int) -> int:
        """Of a row that sees `keys` keys."""
        return count_blocks(keys, self.lanes)


def count_blocks(keys: int, lanes: int) -> int:
    """Blocks of `lanes` keys that hold so many; a row without keys has one as well."""
    return max(-(-keys // lanes), 1)
