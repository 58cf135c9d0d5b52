"""Envelopes: what all serialized messages of one kind have in common, byte for byte.

Concrete's messages are numbers of ciphertexts or keys inside a frame that says shapes and parameters. The frame of a
program's messages is known when it is compiled: whatever differs from it is refused before Concrete reads any of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

_WORD = 8  # bytes: messages are aligned to it, and so are their numbers


@dataclass(frozen=True)
class Envelope:
    """size: of a message, in bytes. numbers: (first byte, bytes) of its parts that are free. frame: SHA-256 of others.

    A secret key added to evaluation keys, a shape or a parameter changed: none of them fits.
    """

    size: int
    numbers: tuple[tuple[int, int], ...]
    frame: str

    @classmethod
    def of(cls, first: bytes, second: bytes) -> Envelope:
        """Of two messages of a kind: numbers are the words that differ, since ciphertexts and keys are random.

        A number is the same in both by a chance of about 2⁻⁴⁰ at most. Raises ValueError if they have no one frame.
        """
        if len(first) != len(second) or len(first) % _WORD:
            raise ValueError(f"messages of {len(first)} and {len(second)} bytes have no common envelope")
        differ = np.frombuffer(first, "<u8") != np.frombuffer(second, "<u8")
        edges = np.flatnonzero(np.diff(differ, prepend=False, append=False)) * _WORD
        numbers = tuple((int(start), int(end - start)) for start, end in edges.reshape(-1, 2))
        return cls(len(first), numbers, _frame(first, numbers))

    def check(self, message: bytes, what: str) -> None:
        """Raise ValueError unless the message has this envelope."""
        if len(message) != self.size:
            raise ValueError(f"{what} of {len(message):,} bytes: exactly {self.size:,} are needed")
        if _frame(message, self.numbers) != self.frame:
            raise ValueError(f"{what}: damaged, or made for another program")

    def as_dict(self) -> dict[str, Any]:
        return {"size": self.size, "numbers": self.numbers, "frame": self.frame}

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Envelope:
        """Raises KeyError, TypeError or ValueError for others than `as_dict` writes."""
        numbers = tuple((int(start), int(length)) for start, length in saved["numbers"])
        return cls(int(saved["size"]), numbers, str(saved["frame"]))


def _frame(message: bytes, numbers: tuple[tuple[int, int], ...]) -> str:
    view, digest, end = memoryview(message), hashlib.sha256(), 0
    for start, length in numbers:
        digest.update(view[end:start])
        end = start + length
    digest.update(view[end:])
    return digest.hexdigest()
