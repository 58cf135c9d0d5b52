"""The teacher: frozen, in evaluation mode, without gradients, and with the student's own tokenizer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..models.contexts import output_projections, record_contexts

_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_PROBE = "Naïve TEXT, e.g. 3.14% of “tokenization”: don't [MASK] <mask> it!"
_PROBED_WORDS = 100


@dataclass(frozen=True)
class Signals:
    """What a teacher says about one batch; only what was asked for is filled in.

    hidden: L + 1 tensors (B, N, dim), the input of layer i at index i and the output of the last at index L.
    contexts: L tensors (B, N, dim), each layer's attention output before its output projection.
    logits: what the head returned.
    """

    hidden: tuple[Tensor, ...] = ()
    contexts: tuple[Tensor, ...] = ()
    logits: Tensor | None = None


class Teacher:
    """A frozen model and the signals that a student learns from."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model.eval().requires_grad_(False)

    @torch.no_grad()
    def __call__(self, batch: Mapping[str, Tensor], *, contexts: bool = False, hidden: bool = False) -> Signals:
        """Signals for a batch with `input_ids`, `attention_mask` and, where its tokenizer gives them, segment ids."""
        self.model.eval()
        projections = output_projections(self.model) if contexts else []
        with record_contexts(projections) as recorded:
            output = self.model(**model_inputs(batch), output_hidden_states=hidden)
        return Signals(
            hidden=tuple(output.hidden_states) if hidden else (),
            contexts=tuple(recorded),
            logits=getattr(output, "logits", None),
        )


def model_inputs(batch: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a batch that an encoder reads."""
    return {name: batch[name] for name in _INPUTS if name in batch}


def require_same_tokenizer(student: PreTrainedTokenizerBase, teacher: PreTrainedTokenizerBase) -> None:
    """Raise ValueError, with the reason, unless both tokenizers give every text the same ids."""
    mine, theirs = student.get_vocab(), teacher.get_vocab()
    if mine != theirs:
        differing = sorted(k for k in mine.keys() | theirs.keys() if mine.get(k) != theirs.get(k))
        raise ValueError(
            f"teacher and student must share a tokenizer: vocabularies of {len(theirs)} and {len(mine)} tokens differ "
            f"in {len(differing)}, e.g. {differing[:3]}"
        )
    probe = _probe(mine.keys())
    theirs_of_it, ours_of_it = (t.convert_ids_to_tokens(t(probe)["input_ids"]) for t in (teacher, student))
    if ours_of_it != theirs_of_it:
        at = next(i for i, (a, b) in enumerate(zip_longest(ours_of_it, theirs_of_it)) if a != b)
        raise ValueError(
            "teacher and student must share a tokenizer: the vocabularies are equal, yet of the same text one makes "
            f"{theirs_of_it[at : at + 4]} and the other {ours_of_it[at : at + 4]}"
        )


def _probe(vocabulary: Iterable[str]) -> str:
    """Text that shows how case, accents and punctuation are treated, in words that the vocabulary has."""
    words = sorted(token for token in vocabulary if token.isalpha())
    sample = words[:: max(len(words) // _PROBED_WORDS, 1)]
    return " ".join([_PROBE, *(f"{w} {w.upper()} {w.title()} {w[0]}\u0301{w[1:]}" for w in sample)])
