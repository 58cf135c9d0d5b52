"""Texts as `input_ids`: one text an example, or windows of equal length out of one stream of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from ..folders import split_files
from ..text import load_texts
from .base import IGNORED, Batch, Examples
from .source import Part, indices_of

_TEXTS_PER_CALL = 1000


class TextExamples(Examples):
    """Each text with its special tokens, cut at `max_length`.

    A batch, padded to its longest text: what the tokenizer gives (`input_ids`, `attention_mask` …), and `labels`, the
    ids with −100 at padding; all (B, N) int64.
    """

    def __init__(self, texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, max_length: int) -> None:
        self.texts, self.tokenizer, self.max_length = texts, tokenizer, max_length

    def __len__(self) -> int:
        return len(self.texts)

    def batch(self, indices: Sequence[int]) -> Batch:
        texts = [self.texts[i] for i in indices]
        batch = dict(
            self.tokenizer(texts, truncation=True, max_length=self.max_length, padding=True, return_tensors="pt")
        )
        return batch | {"labels": batch["input_ids"].masked_fill(batch["attention_mask"] == 0, IGNORED)}


class PackedText(Examples):
    """All texts in their order as one stream of tokens, an end token after each, cut into windows of `length` tokens.

    What is left at the end is dropped. A batch: `input_ids`, `attention_mask` (all ones) and `labels` (the ids), all
    (B, length) int64. Raises ValueError if the texts do not fill one window.
    """

    def __init__(self, texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, length: int) -> None:
        stream = token_stream(texts, tokenizer)
        count = len(stream) // length
        if count == 0:
            raise ValueError(f"{len(texts)} text(s) of {len(stream)} tokens do not fill a window of {length}")
        self.windows = torch.from_numpy(stream[: count * length].reshape(count, length))

    def __len__(self) -> int:
        return len(self.windows)

    def batch(self, indices: Sequence[int]) -> Batch:
        ids = self.windows[list(indices)].long()
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids.clone()}


class MaskedTokens(Examples):
    """Examples of a masked language model: in each, a fraction of the ordinary tokens is replaced by the mask token.

    `labels` holds the ids of these, −100 elsewhere. Which they are depends on the seed and the example's index alone,
    not on its batch; at least one token is hidden of every example that has any.
    """

    def __init__(
        self, examples: Examples, tokenizer: PreTrainedTokenizerBase, *, fraction: float = 0.15, seed: int = 0
    ) -> None:
        if tokenizer.mask_token_id is None:
            raise ValueError("the tokenizer has no mask token: it does not belong to a masked language model")
        self.examples, self.fraction, self.seed = examples, fraction, seed
        self.mask = tokenizer.mask_token_id
        self.special = torch.tensor(tokenizer.all_special_ids)

    def __len__(self) -> int:
        return len(self.examples)

    def batch(self, indices: Sequence[int]) -> Batch:
        batch = self.examples.batch(indices)
        ids = batch["input_ids"]
        hidden = torch.zeros_like(ids, dtype=torch.bool)
        for row, index in enumerate(indices):
            ordinary = (~torch.isin(ids[row], self.special)).nonzero().flatten()
            order = np.random.default_rng([self.seed, index]).permutation(len(ordinary))
            hidden[row, ordinary[order[: max(round(self.fraction * len(order)), 1)]]] = True
        return batch | {"input_ids": ids.masked_fill(hidden, self.mask), "labels": ids.masked_fill(~hidden, IGNORED)}


def token_stream(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> np.ndarray:
    """The ids of all texts, without special tokens but for an end token after each: (tokens,) int32."""
    end = [token for token in (tokenizer.eos_token_id, tokenizer.sep_token_id) if token is not None][:1]
    pieces = []
    for start in range(0, len(texts), _TEXTS_PER_CALL):
        some = list(texts[start : start + _TEXTS_PER_CALL])
        for ids in tokenizer(some, add_special_tokens=False, verbose=False)["input_ids"]:
            pieces.append(np.asarray([*ids, *end], dtype=np.int32))
    return np.concatenate(pieces)


def load_text(
    source: str | Path,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int,
    split: str = "train",
    part: Part = "all",
) -> TextExamples:
    """The texts of a split, in its order, as `TextExamples`; of any number of words."""
    return TextExamples(_read_texts(source, tokenizer, split, part, min_words=1), tokenizer, max_length)


def load_packed_text(
    source: str | Path,
    tokenizer: PreTrainedTokenizerBase,
    *,
    length: int,
    split: str = "train",
    part: Part = "all",
) -> PackedText:
    """The texts of a split, in its order, as `PackedText`; those of less than five words (headings) are left out."""
    return PackedText(_read_texts(source, tokenizer, split, part, min_words=5), tokenizer, length)


def _read_texts(
    source: str | Path, tokenizer: PreTrainedTokenizerBase, split: str, part: Part, *, min_words: int
) -> list[str]:
    """What `load_texts` reads of a split's files, or of any other source; a repeated text is there once."""
    files = split_files(Path(source), split) if Path(source).is_dir() else []
    if Path(source).is_dir() and not files:
        raise FileNotFoundError(f"{source}: no file for the split {split!r} (such as {split}.parquet)")
    unknown = tokenizer.unk_token or "[UNK]"
    texts = load_texts(files or source, shuffle=False, min_words=min_words, unk_token=unknown)
    return [texts[i] for i in indices_of(part, texts, source)]
