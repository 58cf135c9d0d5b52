"""Sentence embeddings by mean pooling, and how well a student's agree with people and with its teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from scipy.stats import spearmanr
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..common.progress import progress

_TOKENS_PER_BATCH = 4096
_TEXTS_PER_CALL = 1000


@torch.no_grad()
def embed(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], *, max_length: int = 256
) -> Tensor:
    """Mean of the last hidden states over each text's tokens, scaled to length one: (texts, dim) float32.

    Texts are cut at `max_length` tokens; batches hold texts of similar length.
    """
    model = model.base_model.eval()
    ids = _token_ids(tokenizer, texts, max_length)
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    embeddings: list[Tensor] = [torch.empty(0)] * len(ids)
    start = 0
    with progress("embedding", len(order), "texts") as advance:
        while start < len(order):
            size = max(_TOKENS_PER_BATCH // len(ids[order[min(start + 256, len(order) - 1)]]), 1)
            members = order[start : start + min(size, 256)]
            start += len(members)
            batch = tokenizer.pad({"input_ids": [ids[i] for i in members]}, return_tensors="pt").to(model.device)
            mask = batch["attention_mask"].unsqueeze(-1)
            outputs = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
            hidden = outputs.last_hidden_state.float()
            pooled = F.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1).cpu()
            for i, vector in zip(members, pooled, strict=True):
                embeddings[i] = vector
            advance(len(members))
    return torch.stack(embeddings)


def _token_ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_length: int) -> list[list[int]]:
    """Token ids of every text, truncated to `max_length` tokens."""
    ids: list[list[int]] = []
    with progress("tokenizing", len(texts), "texts") as advance:
        for start in range(0, len(texts), _TEXTS_PER_CALL):
            some = list(texts[start : start + _TEXTS_PER_CALL])
            ids += tokenizer(some, truncation=True, max_length=max_length)["input_ids"]
            advance(len(some))
    return ids


def sts_spearman(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, pairs: Mapping[str, Sequence], *, max_length: int = 256
) -> float:
    """Spearman correlation of cosine similarities with human scores, without any training on the task.

    pairs: columns `sentence1`, `sentence2`, `label` (STS-B).
    """
    first, second = (embed(model, tokenizer, list(pairs[c]), max_length=max_length) for c in ("sentence1", "sentence2"))
    return rank_correlation((first * second).sum(-1), torch.as_tensor(pairs["label"]))


def agreement(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    lengths: Sequence[int],
    *,
    texts_per_length: int = 64,
) -> dict[int, float]:
    """Mean cosine between student's and teacher's embedding of the same text, at exact lengths in tokens.

    For each length, the first `texts_per_length` texts that have so many tokens are cut to it (special
    tokens included). A length that no text reaches is left out; ValueError if none is reached.
    """
    sizes = [len(ids) for ids in _token_ids(tokenizer, texts, max(lengths))]
    result = {}
    for length in lengths:
        chosen = [t for t, size in zip(texts, sizes, strict=True) if size >= length][:texts_per_length]
        if chosen:
            a, b = (embed(m, tokenizer, chosen, max_length=length) for m in (student, teacher))
            result[length] = float((a * b).sum(-1).mean())
    if not result:
        raise ValueError(f"none of {len(texts)} texts is as long as {min(lengths)} tokens")
    return result


def pair_cosines(embeddings: Tensor) -> Tensor:
    """Cosines of all pairs of unit vectors (n, dim): (n·(n−1)/2,)."""
    rows, columns = torch.triu_indices(len(embeddings), len(embeddings), offset=1)
    return (embeddings @ embeddings.T)[rows, columns]


def rank_correlation(a: Tensor, b: Tensor) -> float:
    """Spearman correlation of two vectors."""
    return float(spearmanr(a.numpy(), b.numpy()).statistic)
