"""How well a decoder predicts text, and how often a student's next token is its teacher's."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from ..tasks.modalities import IGNORED


@torch.no_grad()
def perplexity(model: PreTrainedModel, batches: Iterable[Mapping[str, Tensor]]) -> float:
    """exp of the mean negative log likelihood of the labeled tokens, each given those before it in its own window.

    batches: `input_ids`, `attention_mask` and `labels`, (B, N) each; −100 does not count. The first token of a window
    has none before it and is not predicted, so windows that do not overlap (`PackedText`) count N − 1 of their N
    tokens. Computed in float32. Raises ValueError if nothing counts.
    """
    model.eval()
    total, count = 0.0, 0
    for batch in batches:
        logits = _logits(model, batch)[:, :-1]
        targets = batch["labels"][:, 1:].to(logits.device)
        total += float(F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum"))
        count += int((targets != IGNORED).sum())
    if count == 0:
        raise ValueError("no token to predict: every window is one token long, or nothing is labeled")
    return math.exp(total / count)


@torch.no_grad()
def next_token_agreement(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    prompts: Iterable[Mapping[str, Tensor]],
    *,
    new_tokens: int = 64,
) -> float:
    """Fraction of the tokens in a teacher's greedy continuation that the student, fed the same text, also ranks first.

    The teacher continues each prompt by `new_tokens`, or up to its end token; the student reads prompt and continuation
    in one forward, so that one disagreement does not change what follows. 1.0 of a teacher with itself, but for ties
    and rounding.

    prompts: `input_ids` and `attention_mask`, (B, N) each, padded on the left if at all.
    """
    student.eval()
    agreed, count = 0, 0
    for batch in prompts:
        ids, mask = batch["input_ids"].to(teacher.device), batch["attention_mask"].to(teacher.device)
        text = generate_greedily(teacher, ids, mask, new_tokens)
        written = text[:, ids.shape[1] :]
        counted = until_end(written, teacher.generation_config.eos_token_id)
        whole = torch.cat([mask, counted.long()], dim=1)
        inputs = {"input_ids": text, "attention_mask": whole}
        if "position_ids" in inspect.signature(student.forward).parameters:  # `generate` counts from the first token
            inputs["position_ids"] = (whole.cumsum(1) - 1).clamp(min=0)
        guesses = _logits(student, inputs)[:, ids.shape[1] - 1 : -1].argmax(-1).to(written.device)
        agreed += int(((guesses == written) & counted).sum())
        count += int(counted.sum())
    if count == 0:
        raise ValueError("no prompt was given")
    return agreed / count


def generate_greedily(model: PreTrainedModel, ids: Tensor, mask: Tensor, new_tokens: int) -> Tensor:
    """Prompt and at most `new_tokens` more: (B, N) int64 to (B, N + M) int64."""
    model.eval()
    pad = model.generation_config.pad_token_id
    text: Tensor = model.generate(
        input_ids=ids,
        attention_mask=mask,
        max_new_tokens=new_tokens,
        do_sample=False,
        num_beams=1,
        pad_token_id=0 if pad is None else pad,
    )
    return text


def until_end(written: Tensor, end: int | list[int] | None) -> Tensor:
    """Which tokens of (B, M) come no later than a row's first end token: (B, M) bool."""
    ends = torch.tensor([] if end is None else end, dtype=written.dtype, device=written.device).reshape(-1)
    is_end = torch.isin(written, ends).int()
    return is_end.cumsum(1) - is_end == 0


def _logits(model: PreTrainedModel, batch: Mapping[str, Tensor]) -> Tensor:
    """(B, N, vocabulary) float32; labels are kept from the model, which would compute a loss."""
    inputs = {name: tensor.to(model.device) for name, tensor in batch.items() if name != "labels"}
    return model(**inputs, use_cache=False).logits.float()
