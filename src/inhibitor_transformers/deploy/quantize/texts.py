"""Checks texts to calibrate on, and tokenizes them in batches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import Any

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from ...common.progress import track
from ...tasks.files import require_whole_characters
from ...tasks.text import Text

Batch = dict[str, Tensor]
Texts = Iterable[Text]


def check_texts(texts: Texts) -> list[Text]:
    """Check texts, or pairs of texts, from any iterable; they keep their order, blank ones are dropped.

    Raises ValueError for a single string, for a mapping or a set, for what is no text, for halves of characters, for
    texts among pairs, and if nothing is left.
    """
    if isinstance(texts, str):
        raise ValueError("texts must be several, such as a list, got one string")
    try:
        numbered = enumerate(texts, 1)
    except TypeError:
        numbered = None
    # Of a mapping only the keys would be read; the order of a set is another one in every process.
    if numbered is None or isinstance(texts, Mapping | Set | bytes):
        raise ValueError(f"texts must be a list of texts, or of pairs of texts, got {type(texts).__name__}")
    listed = [_check_text(text, number) for number, text in numbered]
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
    """Tokens of all texts, padded within each batch. Raises as `check_texts`, and ValueError for other numbers."""
    if type(batch_size) is not int or batch_size < 1:
        raise ValueError(f"batch_size must be a positive whole number, got {batch_size!r}")
    listed: list[Any] = check_texts(texts)
    require_max_length(max_length, tokenizer, is_pair=isinstance(listed[0], tuple))
    return [
        dict(tokenizer(some, padding=True, truncation=True, max_length=max_length, return_tensors="pt"))
        for some in track([listed[i : i + batch_size] for i in range(0, len(listed), batch_size)], "tokenizing")
    ]


def require_max_length(max_length: int, tokenizer: PreTrainedTokenizerBase, *, is_pair: bool) -> None:
    """Raise ValueError unless `max_length` tokens leave room for one of the text beside the special ones."""
    special = tokenizer.num_special_tokens_to_add(pair=is_pair)
    if type(max_length) is not int or max_length <= special:
        raise ValueError(f"max_length must be a whole number above the {special} special tokens, got {max_length!r}")


def _check_text(text: Any, number: int) -> Text:
    parts = (text,) if isinstance(text, str) else tuple(text) if isinstance(text, tuple | list) else ()
    if not all(isinstance(part, str) for part in parts) or len(parts) != (1 if isinstance(text, str) else 2):
        raise ValueError(f"texts must be strings, or pairs of strings, got {text!r}")
    for part in parts:
        require_whole_characters(part, f"text {number}")
    return str(text) if isinstance(text, str) else (str(parts[0]), str(parts[1]))


def _parts(text: Text) -> tuple[str, ...]:
    return (text,) if isinstance(text, str) else text
