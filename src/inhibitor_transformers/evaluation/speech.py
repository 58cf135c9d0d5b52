"""Word error rate of transcriptions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def normalize(text: str) -> list[str]:
    """Words in lower case without punctuation; digits as words, one by one ("42" is "four two")."""
    spelled = re.sub(r"\d", lambda digit: f" {DIGITS[int(digit[0])]} ", text.lower())
    return re.sub(r"[^\w\s']", " ", spelled).replace("'", "").split()


def word_errors(heard: Sequence[str], said: Sequence[str]) -> int:
    """Fewest words to insert, delete or replace in `heard` to get `said` (Levenshtein)."""
    row = list(range(len(said) + 1))
    for i, word in enumerate(heard, 1):
        above_left, row[0] = row[0], i
        for j, other in enumerate(said, 1):
            above_left, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above_left + (word != other))
    return row[-1]


def word_error_rate(heard: Sequence[str], said: Sequence[str]) -> float:
    """Word errors over the words that were said, of all texts together, each normalized; it can exceed 1.

    Raises ValueError for lists of unequal length, and where nothing was said.
    """
    pairs = [(normalize(a), normalize(b)) for a, b in zip(heard, said, strict=True)]
    words = sum(len(b) for _, b in pairs)
    if words == 0:
        raise ValueError("nothing was said, so there is no word error rate")
    return sum(word_errors(a, b) for a, b in pairs) / words


@torch.no_grad()
def transcribe(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    batches: Iterable[Mapping[str, Tensor]],
    *,
    max_new_tokens: int = 32,
) -> list[str]:
    """What a speech model writes greedily for each recording; batches: its inputs, `labels` are left out."""
    model.eval()
    texts: list[str] = []
    for batch in batches:
        inputs = {name: tensor.to(model.device) for name, tensor in batch.items() if name != "labels"}
        ids = model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False, num_beams=1)
        texts += [text.strip() for text in tokenizer.batch_decode(ids, skip_special_tokens=True)]
    return texts
