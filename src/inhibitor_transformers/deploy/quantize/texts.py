"""Texts to calibrate on, as callers have them: checked, and as batches of tokens."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from ...common.progress import counted

Batch = dict[str, Tensor]
Text = str | tuple[str, str]
Texts = Iterable[Text]


def list_of_texts(texts: Texts) -> list[Text]:
    """The texts, or pairs of texts, of a list, array, column or generator, in their order; blank ones are left out.

    Raises ValueError for a single string, for what is no text, for texts among pairs, and if nothing is left.
    """
    if isinstance(texts, str):
        raise ValueError("texts must be several, such as a list, got one string")
    try:
        listed = [_checked(text) for text in texts]
    except TypeError:
        raise ValueError(f"texts must be a list of texts, or of pairs of texts, got {type(texts).__name__}") from None
    found = [text for text in listed if any(part.strip() for part in _parts(text))]
    if not found:
        blank = f"all {len(listed)} texts are blank" if listed else "there are none"
        raise ValueError(f"quantize needs texts to calibrate on: {blank}")
    if len({type(text) for text in found}) > 1:
        raise ValueError("texts must be all single or all pairs, got both")
    return found


def as_batches(
    texts: Texts, tokenizer: PreTrainedTokenizerBase, *, max_length: int, batch_size: int = 16
) -> list[Batch]:
    """Tokens of all texts, padded within each batch. Raises as `list_of_texts`."""
    if batch_size < 1:
        raise ValueError(f"batch_size must be positive, got {batch_size}")
    listed: list[Any] = list_of_texts(texts)
    return [
        dict(tokenizer(some, padding=True, truncation=True, max_length=max_length, return_tensors="pt"))
        for some in counted([listed[i : i + batch_size] for i in range(0, len(listed), batch_size)], "tokenizing")
    ]


def _checked(text: Any) -> Text:
    if isinstance(text, str):
        return str(text)
    pair = tuple(text) if isinstance(text, tuple | list) else ()
    if len(pair) == 2 and all(isinstance(part, str) for part in pair):
        return str(pair[0]), str(pair[1])
    raise ValueError(f"texts must be strings, or pairs of strings, got {text!r}")


def _parts(text: Text) -> tuple[str, ...]:
    return (text,) if isinstance(text, str) else text
