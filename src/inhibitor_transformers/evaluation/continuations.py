"""What a converted text model and its teacher make of a text, token by token, and which tokens pass to one of them."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..models.architectures import max_tokens
from ..report import Continuation, LayerMaps, NextToken
from ..report.continuation import label_token
from .causal_lm import generate_greedily
from .passing import forward_arguments, record_pairs

LONGEST_PROMPT = 64  # tokens
SHOWN_KEYS = 40


@torch.no_grad()
def measure_text(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    text: str,
    *,
    new_tokens: int,
) -> Continuation:
    """The greedy continuations of a text, cut to `LONGEST_PROMPT` tokens, and a map of one query.

    The query is the token at which the student's choice of the next one first differs from the teacher's, or the
    prompt's last if it never does. Of models that generate nothing it is the first of all, or the last where attention
    is causal.

    Raises ValueError for models with fewer positions than prompt and new tokens, for a text without tokens, and for a
    teacher of other modules.
    """
    if not student.can_generate():
        return _measure_encoder(student, teacher, tokenizer, text)
    ids = _prompt_ids(tokenizer, text, student, new_tokens)
    length = ids.shape[1]
    theirs, ours = (generate_greedily(m, ids, torch.ones_like(ids), new_tokens).cpu()[0] for m in (teacher, student))
    logits = student(**forward_arguments(student, _inputs(theirs[None]))).logits
    choices = logits[0, length - 1 : -1].argmax(-1).tolist()
    agrees = [choice == token for choice, token in zip(choices, theirs[length:].tolist(), strict=True)]
    differs = False in agrees
    query = length - 1 + (agrees.index(False) if differs else 0)
    pieces = split_text(tokenizer, theirs.tolist())
    start = max(query + 1 - SHOWN_KEYS, 0)
    reason = "after which the choices first differ" if differs else "the last of the prompt"
    name = f"“{label_token(pieces[query])}”, {reason}"
    return Continuation(
        prompt="".join(pieces[:length]),
        tokens=[
            NextToken(pieces[i], split_text(tokenizer, [*theirs[:i].tolist(), choice])[-1], agreed)
            for i, (choice, agreed) in enumerate(zip(choices, agrees, strict=True), length)
        ],
        own=split_text(tokenizer, ours.tolist())[length:],
        common=_count_common(theirs[length:].tolist(), ours[length:].tolist()),
        keys=pieces[start : query + 1],
        cut=start,
        maps=_token_maps(student, teacher, theirs[None, : query + 1], query, start, name),
    )


def split_text(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> list[str]:
    """The text of each token, with the spaces between them: joined, they are the whole text as far as tokens allow."""
    pieces, before = [], ""
    for i in range(1, len(ids) + 1):
        whole = tokenizer.decode(ids[:i], clean_up_tokenization_spaces=False)
        # Where a token changes what came before it, as a half of a letter does, it stands alone.
        pieces.append(whole[len(before) :] if whole.startswith(before) else tokenizer.decode(ids[i - 1 : i]))
        before = whole
    return pieces


def _measure_encoder(
    student: PreTrainedModel, teacher: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: str
) -> Continuation:
    ids = _prompt_ids(tokenizer, text, student, 0)
    keys = tokenizer.convert_ids_to_tokens(ids[0].tolist())
    causal = any(site.is_causal for site in student.config.record.sites)
    query, place = (len(keys) - 1, "last") if causal else (0, "first")
    maps = _token_maps(student, teacher, ids, query, 0, f"“{keys[query]}”, the {place}")
    return Continuation(text, [], [], 0, keys, 0, maps)


def _prompt_ids(tokenizer: PreTrainedTokenizerBase, text: str, model: PreTrainedModel, new_tokens: int) -> Tensor:
    """(1, N) int64, no longer than the model has positions for beside what it is to write."""
    limit = max_tokens(model.config) or LONGEST_PROMPT + new_tokens
    if limit <= new_tokens:
        raise ValueError(f"--new-tokens must be below {limit}, the most that this {model.config.model_type} reads")
    longest = min(LONGEST_PROMPT, limit - new_tokens)
    ids: Tensor = tokenizer(text, truncation=True, max_length=longest, return_tensors="pt")["input_ids"].long()
    if ids.shape[1] == 0:
        raise ValueError(f"the text {text!r} has no tokens")
    return ids


def _inputs(ids: Tensor) -> dict[str, Tensor]:
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def _count_common(a: list[int], b: list[int]) -> int:
    """How many tokens both begin with."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _token_maps(
    student: PreTrainedModel, teacher: PreTrainedModel, ids: Tensor, query: int, start: int, name: str
) -> LayerMaps:
    """Of one query, the keys from `start` on. ids: (1, N)."""
    pairs = record_pairs(student, teacher, _inputs(ids))
    row = slice(query, query + 1)
    return LayerMaps(
        name,
        [pair.layer for pair in pairs],
        [pair.passing(row)[0, :, 0, start:].mean(0).tolist() for pair in pairs],
        [pair.probabilities[0, :, query, start:].mean(0).tolist() for pair in pairs],
    )
