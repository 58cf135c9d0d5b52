"""Integers as bits, 64 cycles to a word: what a port carries cycle by cycle, the way netlists are evaluated."""

from __future__ import annotations

import numpy as np


def to_bits(values: np.ndarray, width: int) -> np.ndarray:
    """Integers (cycles,), negative ones in two's complement → uint8 (width, cycles), the lowest bit first.

    Ports wider than 63 bits take arrays of Python's integers (dtype object).
    """
    values = np.asarray(values)
    if values.dtype != object:
        shifts = np.minimum(np.arange(width), 63)[:, None]  # beyond: the sign again
        return (values.astype(np.int64) >> shifts & 1).astype(np.uint8)
    size = (width + 7) // 8
    rows = [(int(value) % (1 << 8 * size)).to_bytes(size, "little") for value in values]
    octets = np.frombuffer(b"".join(rows), dtype=np.uint8).reshape(len(rows), size)
    return np.ascontiguousarray(np.unpackbits(octets, axis=1, bitorder="little").T[:width])


def from_bits(bits: np.ndarray) -> np.ndarray:
    """uint8 (width, cycles) → integers (cycles,), unsigned: int64, or Python's own beyond 63 bits."""
    width, cycles = bits.shape
    if width < 64:
        weights = np.int64(1) << np.arange(width, dtype=np.int64)
        return np.asarray(weights @ bits.astype(np.int64))
    octets = np.packbits(bits.T, axis=1, bitorder="little")
    integers = np.empty(cycles, dtype=object)
    integers[:] = [int.from_bytes(row.tobytes(), "little") for row in octets]
    return integers


def pack(bits: np.ndarray) -> np.ndarray:
    """uint8 (n, cycles) → uint64 (n, words); the last word is filled up with the last cycle, where nothing moves."""
    count, cycles = bits.shape
    padded = np.concatenate([bits, np.repeat(bits[:, -1:], -cycles % 64, axis=1)], axis=1)
    return np.packbits(padded, axis=1, bitorder="little").view("<u8").astype(np.uint64).reshape(count, -1)


def unpack(words: np.ndarray, cycles: int) -> np.ndarray:
    """uint64 (n, words) → uint8 (n, cycles): the inverse of `pack`."""
    octets = np.ascontiguousarray(words, dtype="<u8").view(np.uint8)
    return np.unpackbits(octets, axis=1, bitorder="little")[:, :cycles]
