"""Reads the weights of a CTranslate2 folder (model.bin, format 6): what its Whisper models are kept in."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

FORMAT = 6
TYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}  # CTranslate2's numbers for them


class Reader:
    """Little-endian numbers and strings, one after the other."""

    def __init__(self, content: bytes) -> None:
        self.content, self.position = content, 0

    def take(self, count: int) -> bytes:
        self.position += count
        return self.content[self.position - count : self.position]

    def number(self, code: str) -> int:
        (value,) = struct.unpack(f"<{code}", self.take(struct.calcsize(f"<{code}")))
        return int(value)

    def string(self) -> str:
        return self.take(self.number("H")).rstrip(b"\0").decode()


def read_weights(file: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Name -> array in the type that it is stored in; aliases are left out. Raises ValueError for another format."""
    reader = Reader(file.read_bytes())
    if (version := reader.number("I")) != FORMAT:
        raise ValueError(f"{file}: format {version} of CTranslate2, not {FORMAT}")
    reader.string(), reader.number("I")  # the specification and its revision
    weights = {}
    for _ in range(reader.number("I")):
        name = reader.string()
        shape = [reader.number("I") for _ in range(reader.number("B"))]
        dtype = TYPES[reader.number("B")]
        weights[name] = np.frombuffer(reader.take(reader.number("I")), dtype).reshape(shape)
    return weights
