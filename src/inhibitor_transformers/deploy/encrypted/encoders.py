"""What a client does before it encrypts: images or sentences to the levels that a classifier takes, (B, n, I) int64.

Encoders hold nothing of the server's weights. `state` gives what they are as JSON and arrays, from which
`encoder_from_state` makes them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .graph import Array

State = tuple[dict[str, Any], dict[str, NDArray[Any]]]

_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")
_NOT = re.compile(r"(?<=\w)n't\b")


@dataclass(frozen=True, eq=False)
class PixelEncoder:
    """Images to tokens of quantized pixels.

    order: (n, I), the pixels of each token, numbers of a flattened image. highest: pixels are 0 … highest.
    input_qmax: the greatest level.
    """

    order: Array
    highest: int
    input_qmax: int

    def __post_init__(self) -> None:
        _require(self.order.ndim == 2 and self.order.dtype.kind in "iu", "order must be integers (tokens, pixels)")
        _require(
            np.array_equal(np.sort(self.order, None), np.arange(self.order.size)), "order must hold each pixel once"
        )
        _require(1 <= self.input_qmax <= self.highest, "input_qmax must lie in [1, highest]")

    @property
    def shape(self) -> tuple[int, int]:
        """(n, I)."""
        return self.order.shape[0], self.order.shape[1]

    def encode(self, raw: Any) -> Array:
        """Images (B, …) of finite numbers 0 … highest. Raises ValueError for others."""
        try:
            pixels = np.asarray(raw, np.float64)
        except (TypeError, ValueError):
            raise ValueError("images must be an array of numbers (images, height, width)") from None
        if pixels.ndim < 2 or pixels[0:1].size not in (0, self.order.size):
            raise ValueError(f"images must have {self.order.size} pixels each, got an array of shape {pixels.shape}")
        if not ((pixels >= 0) & (pixels <= self.highest)).all():  # False for NaN too
            raise ValueError(f"pixels must lie in [0, {self.highest}]")
        levels = np.floor(pixels.reshape(len(pixels), self.order.size) * (self.input_qmax + 1) / (self.highest + 1))
        return levels.clip(max=self.input_qmax).astype(np.int64)[:, self.order]

    def state(self) -> State:
        """Its settings, which JSON can hold, and its arrays."""
        return {"kind": "pixels", "highest": self.highest, "input_qmax": self.input_qmax}, {"order": self.order}


@dataclass(frozen=True, eq=False)
class WordEncoder:
    """Sentences to the levels of their most important words, in the order of the sentence, then zeros.

    words: the vocabulary. levels: (V, I), 0 … input_qmax, of each word. importance: (V,), which words are kept where a
    sentence has more than `tokens`. Words outside the vocabulary are passed over, the repeated ones count once.
    """

    words: tuple[str, ...]
    levels: Array
    importance: NDArray[np.float64]
    tokens: int
    input_qmax: int

    def __post_init__(self) -> None:
        count = len(self.words)
        _require(count > 0 and len(set(self.words)) == count, "words must be distinct, and at least one")
        _require(
            self.levels.ndim == 2 and len(self.levels) == count, f"levels must be (words, inputs) of {count} words"
        )
        _require(self.levels.dtype.kind in "iu", "levels must be integers")
        _require(
            bool((self.levels >= 0).all() and (self.levels <= self.input_qmax).all()),
            f"levels must lie in [0, {self.input_qmax}]",
        )
        _require(self.importance.shape == (count,), f"importance must have one number for each of {count} words")
        _require(bool(np.isfinite(self.importance).all()), "importance must be finite")
        _require(self.tokens >= 1, "tokens must be at least 1")

    @property
    def shape(self) -> tuple[int, int]:
        """(n, I)."""
        return self.tokens, self.levels.shape[1]

    def encode(self, raw: Any) -> Array:
        """Sentences, a sequence of strings. Raises ValueError for anything else."""
        numbers = self.numbers(raw)
        padded = np.concatenate([self.levels.astype(np.int64), np.zeros((1, self.levels.shape[1]), np.int64)])
        return padded[numbers]  # the number −1 is the row of zeros

    def numbers(self, raw: Any) -> Array:
        """(B, n) numbers of the words that are kept, then −1."""
        if isinstance(raw, str) or not isinstance(raw, Sequence) or not all(isinstance(text, str) for text in raw):
            raise ValueError("sentences must be a list of strings")
        numbers = np.full((len(raw), self.tokens), -1, np.int64)
        for row, text in zip(numbers, raw, strict=True):
            found = list(dict.fromkeys(self._numbers[word] for word in split_words(text) if word in self._numbers))
            kept = set(sorted(found, key=lambda number: -self.importance[number])[: self.tokens])
            row[: len(kept)] = [number for number in found if number in kept]
        return numbers

    def state(self) -> State:
        """Its settings, which JSON can hold, and its arrays."""
        settings = {"kind": "words", "words": list(self.words), "tokens": self.tokens, "input_qmax": self.input_qmax}
        return settings, {"levels": self.levels, "importance": self.importance}

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.words)}


Encoder = PixelEncoder | WordEncoder
_KEYS = {  # of the settings besides "kind", and of the arrays
    "pixels": ({"highest", "input_qmax"}, {"order"}),
    "words": ({"words", "tokens", "input_qmax"}, {"levels", "importance"}),
}


def encoder_from_state(settings: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Encoder:
    """The encoder that `state` described. Raises ValueError for missing, unknown or wrong entries, naming them."""
    kind = settings.get("kind")
    if not isinstance(kind, str) or kind not in _KEYS:
        raise ValueError(f"encoder: kind must be one of {list(_KEYS)}, got {kind!r}")
    names, array_names = _KEYS[kind]
    require_keys("encoder", settings, names | {"kind"})
    require_keys("arrays of the encoder", arrays, array_names)
    for name in names - {"words"}:
        _require(type(settings[name]) is int, f"{name} must be an integer, got {settings[name]!r}")
    if kind == "pixels":
        return PixelEncoder(arrays["order"], settings["highest"], settings["input_qmax"])
    words = settings["words"]
    _require(
        isinstance(words, list) and all(isinstance(word, str) for word in words), "words must be a list of strings"
    )
    importance = np.asarray(arrays["importance"], np.float64)
    return WordEncoder(tuple(words), arrays["levels"], importance, settings["tokens"], settings["input_qmax"])


def split_words(text: str) -> list[str]:
    """Lower-case words; "n't" is a word of its own, as in SST-2."""
    return _WORD.findall(_NOT.sub(" n't", text.lower()))


def require_keys(what: str, found: Mapping[str, Any], wanted: set[str]) -> None:
    """Raise ValueError that names what is missing from `found` and what is unknown in it."""
    if missing := sorted(wanted - found.keys()):
        raise ValueError(f"{what}: {', '.join(missing)} missing")
    if unknown := sorted(found.keys() - wanted):
        raise ValueError(f"{what}: {', '.join(unknown)} unknown")


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ValueError(f"encoder: {message}")
