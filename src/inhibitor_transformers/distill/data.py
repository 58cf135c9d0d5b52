"""Texts as token windows of mixed lengths, and batches of about equally many tokens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase

from ..common.progress import progress
from ..tasks.text import Text
from .losses import IGNORED

_MIN_TOKENS = 8  # a shorter window, special tokens included, hardly trains attention
_TEXTS_PER_CALL = 1000
_MIN_PAIR = 12  # tokens that are enough for two texts
_LENGTH_STEP = 4  # tokens by which the windows of a batch may differ, and an eighth of long ones
_REPEATED = 0.5  # of the pairs, those whose second text repeats the first,
_KEPT = 0.8  # but for one token in five


def token_windows(
    texts: Iterable[Text],
    tokenizer: PreTrainedTokenizerBase,
    lengths: Sequence[int],
    *,
    seed: int = 0,
    max_tokens: int | None = None,
    pair_fraction: float = 0.0,
) -> list[np.ndarray]:
    """Cut texts into windows with special tokens; each window's greatest length is drawn from `lengths`.

    Args:
        texts: any texts; long ones give several windows. A pair of texts is one, cut to the longest.
        lengths: window lengths in tokens, special tokens included; one that is named twice is drawn twice as often.
        max_tokens: stop after about so many tokens.
        pair_fraction: fraction of the windows that are cut in two, as a pair of texts. In half of the pairs the second
            text repeats most of the first, as in paraphrases: attention from one to the other is what pairs are about.

    Returns int32 arrays (n,), 8 ≤ n ≤ max(lengths). Raises ValueError if the texts give none.
    """
    random = np.random.default_rng(seed)
    windows: list[np.ndarray] = []
    total = 0
    with progress("tokenizing", max_tokens, "tokens") as advance:
        for window in _windows(texts, tokenizer, lengths, random, pair_fraction):
            windows.append(np.asarray(window, dtype=np.int32))
            advance(len(window))
            total += len(window)
            if max_tokens is not None and total >= max_tokens:
                break
    if not windows:
        raise ValueError(f"the texts hold no window of at least {_MIN_TOKENS} tokens to learn from")
    return windows


def _windows(
    texts: Iterable[Text],
    tokenizer: PreTrainedTokenizerBase,
    lengths: Sequence[int],
    random: np.random.Generator,
    pair_fraction: float,
) -> Iterator[list[int]]:
    prefix, suffix = _special_tokens(tokenizer)
    separator = _separator(tokenizer)
    special = len(prefix) + len(suffix)
    for ids, is_window in _encode(texts, tokenizer, max(lengths)):
        start = 0
        while not is_window and len(ids) - start + special >= _MIN_TOKENS:
            body = ids[start : start + int(random.choice(lengths)) - special]
            start += len(body)
            if pair_fraction > 0 and len(body) >= _MIN_PAIR + len(separator) and random.random() < pair_fraction:
                body = _as_pair(body, separator, random)
            if len(body) + special >= _MIN_TOKENS:
                yield [*prefix, *body, *suffix]
        if is_window and len(ids) >= _MIN_TOKENS:
            yield ids


def exact_windows(
    texts: Iterable[Text], tokenizer: PreTrainedTokenizerBase, length: int, count: int
) -> list[np.ndarray]:
    """The first `count` windows of exactly `length` tokens, special tokens included; fewer where texts run out.

    Pairs of texts are left out.
    """
    prefix, suffix = _special_tokens(tokenizer)
    body = length - len(prefix) - len(suffix)
    windows: list[np.ndarray] = []
    with progress(f"windows of {length} tokens", count) as advance:
        for ids, _ in _encode((text for text in texts if isinstance(text, str)), tokenizer, length):
            for start in range(0, len(ids) - body + 1, body):
                if len(windows) == count:
                    return windows
                windows.append(np.asarray([*prefix, *ids[start : start + body], *suffix], dtype=np.int32))
                advance(1)
    return windows


def _special_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """What the tokenizer puts before and after a single text."""
    bare, full = tokenizer("a", add_special_tokens=False)["input_ids"], tokenizer("a")["input_ids"]
    start = next(i for i in range(len(full)) if full[i : i + len(bare)] == bare)
    return full[:start], full[start + len(bare) :]


def _separator(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """What the tokenizer puts between the two texts of a pair."""
    prefix, suffix = _special_tokens(tokenizer)
    bare, pair = tokenizer("a", add_special_tokens=False)["input_ids"], tokenizer("a", "a")["input_ids"]
    return pair[len(prefix) + len(bare) : len(pair) - len(bare) - len(suffix)]


def _as_pair(body: list[int], separator: list[int], random: np.random.Generator) -> list[int]:
    """The tokens as two texts with `separator` in their middle, as many in all as there were."""
    cut = int(random.integers(len(body) // 3, 2 * len(body) // 3))
    first, second = body[:cut], body[cut + len(separator) :]
    if random.random() < _REPEATED:
        kept = [token for token in first if random.random() < _KEPT]
        second = (kept + second)[: len(second)]
    return [*first, *separator, *second]


class _Tokens(NamedTuple):
    """Of a text: bare ids, to be cut into windows. Of a pair of texts: ids that are a whole window."""

    ids: list[int]
    is_window: bool


def _encode(texts: Iterable[Text], tokenizer: PreTrainedTokenizerBase, longest: int) -> Iterator[_Tokens]:
    """Each text or pair in order; a pair is cut to `longest` tokens."""
    rest = iter(texts)
    while chunk := list(islice(rest, _TEXTS_PER_CALL)):
        bare = [text for text in chunk if isinstance(text, str)]
        pairs = [text for text in chunk if not isinstance(text, str)]
        singles = iter(tokenizer(bare, add_special_tokens=False, verbose=False)["input_ids"] if bare else ())
        columns = ([a for a, _ in pairs], [b for _, b in pairs])
        doubles = iter(tokenizer(*columns, truncation=True, max_length=longest)["input_ids"] if pairs else ())
        for text in chunk:
            yield _Tokens(next(singles), False) if isinstance(text, str) else _Tokens(next(doubles), True)


class StepBatches(Dataset[dict[str, Tensor]]):
    """One item per training step: a padded batch of at most `tokens_per_step` tokens, padding included.

    Windows of similar length share a batch, so little is padding. Item i is the same whenever it is asked
    for, so an interrupted run resumes exactly. Items are whole batches: load them with batch size one and
    `unpack`. `labels` marks what counts (every valid token), padding has −100; `window_indices` says
    which windows it holds, (B,) int64.
    """

    def __init__(
        self,
        windows: Sequence[np.ndarray],
        tokenizer: PreTrainedTokenizerBase,
        *,
        steps: int,
        tokens_per_step: int,
        lengths: Sequence[int],
        seed: int = 0,
    ) -> None:
        if tokens_per_step < max(lengths):
            raise ValueError(
                f"tokens_per_step ({tokens_per_step}) must hold the longest window ({max(lengths)} tokens)"
            )
        self.windows, self.tokenizer, self.seed = windows, tokenizer, seed
        self.batches: list[np.ndarray] = []
        epoch = 0
        while len(self.batches) < steps:
            self.batches += _group(windows, tokens_per_step, np.random.default_rng([seed, epoch]))
            epoch += 1
        self.batches = self.batches[:steps]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        indices = self.batches[index]
        batch = pad_windows([self.windows[i] for i in indices], self.tokenizer)
        return batch | {"window_indices": torch.from_numpy(indices)}


def _group(windows: Sequence[np.ndarray], tokens: int, random: np.random.Generator) -> list[np.ndarray]:
    """Indices of windows in random order, each once: of like length in a batch, at most `tokens` with padding."""
    order = random.permutation(len(windows))
    sizes = np.array([len(windows[i]) for i in order])
    batches, shortest = [], 0
    while shortest < sizes.max():
        longest = shortest + max(shortest // 8, _LENGTH_STEP)
        members = order[(shortest < sizes) & (sizes <= longest)]
        size = tokens // min(longest, int(sizes.max()))
        batches += [members[i : i + size] for i in range(0, len(members), size)]
        shortest = longest
    return [batches[i] for i in random.permutation(len(batches))]


def pad_windows(windows: Sequence[np.ndarray], tokenizer: PreTrainedTokenizerBase) -> dict[str, Tensor]:
    """`input_ids`, `attention_mask` and `labels` (the ids, −100 at padding), each (B, longest) int64."""
    longest = max(len(w) for w in windows)
    ids = torch.full((len(windows), longest), tokenizer.pad_token_id, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for i, window in enumerate(windows):
        ids[i, : len(window)] = torch.from_numpy(window.astype(np.int64))
        mask[i, : len(window)] = 1
    return {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(mask == 0, IGNORED)}


def mask_tokens(
    ids: Tensor, tokenizer: PreTrainedTokenizerBase, probability: float, draw: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Hide tokens as masked language models are trained (Devlin et al., 2019).

    Of the ordinary tokens of `ids`, (B, N), each is chosen with `probability`: 80 % of these become the mask token,
    10 % a random token, 10 % stay. Returns the ids after that, and which were chosen, (B, N) bool: at least one.
    """
    ordinary = ~torch.isin(ids, torch.tensor(tokenizer.all_special_ids))
    chosen = (torch.rand(ids.shape, generator=draw) < probability) & ordinary
    if not chosen.any():  # a step without anything to predict would have no loss
        chosen[0, 1] = True
    kind = torch.rand(ids.shape, generator=draw)
    random_ids = torch.randint(len(tokenizer), ids.shape, generator=draw)
    masked = torch.where(chosen & (kind < 0.8), tokenizer.mask_token_id, ids)
    return torch.where(chosen & (kind >= 0.9), random_ids, masked), chosen


class MaskedInputs(Dataset[dict[str, Tensor]]):
    """Batches of texts in which tokens are hidden from student and teacher alike; `labels` still count every token.

    So what a masked language model computes at mask tokens is aligned as well.
    """

    def __init__(self, batches: StepBatches, probability: float) -> None:
        self.batches, self.probability = batches, probability

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        batch = self.batches[index]
        draw = torch.Generator().manual_seed(self.batches.seed * 1_000_003 + index)
        masked, _ = mask_tokens(batch["input_ids"], self.batches.tokenizer, self.probability, draw)
        return batch | {"input_ids": masked}


def unpack(items: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Collate function of `StepBatches`: the one item is the batch."""
    (batch,) = items
    return batch
