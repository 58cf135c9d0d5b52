"""Whether a model, its tokenizer, its labels and another model fit each other."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import zip_longest

from transformers import PretrainedConfig, PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

_PROBE = "Naïve TEXT, e.g. 3.14% of “tokenization”: don't [MASK] <mask> it!"
_PROBED_WORDS = 100


def require_same_tokenizer(student: PreTrainedTokenizerBase, teacher: PreTrainedTokenizerBase) -> None:
    """Raise ValueError, with the reason, unless both tokenizers give a text the same ids."""
    mine, theirs = student.get_vocab(), teacher.get_vocab()
    if mine != theirs:
        differing = sorted(k for k in mine.keys() | theirs.keys() if mine.get(k) != theirs.get(k))
        raise ValueError(
            f"teacher and student must share a tokenizer: vocabularies of {len(theirs)} and {len(mine)} tokens differ "
            f"in {len(differing)}, e.g. {differing[:3]}"
        )
    probe = _probe(mine.keys())
    theirs_of_it, ours_of_it = (
        t.convert_ids_to_tokens(t(probe, verbose=False)["input_ids"]) for t in (teacher, student)
    )
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


def warn_of_lost_segments(config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase, what: str) -> None:
    """Warn, once, if `tokenizer` gives pairs without `token_type_ids` to a model that has an embedding per segment.

    The model then takes both texts for segment 0, which is right only if it was trained so. `what` has the pairs.
    """
    segments = getattr(config, "type_vocab_size", None) or 0
    if segments > 1 and "token_type_ids" not in tokenizer.model_input_names:
        _warn_once(
            f"{what}: the tokenizer gives no token_type_ids, so this {config.model_type} with {segments} segments "
            "takes both texts of a pair for segment 0; use the tokenizer that it was trained with"
        )


@cache
def _warn_once(message: str) -> None:
    logger.warning(message)


def label_names(config: PretrainedConfig) -> list[str] | None:
    """Names of a model's outputs in their order; None where it has only transformers' own, LABEL_0 and so on."""
    names = [str(config.id2label.get(i, f"LABEL_{i}")) for i in range(config.num_labels)]
    return None if names == [f"LABEL_{i}" for i in range(len(names))] else names


def find_order(names: Sequence[str], among: Sequence[str]) -> list[int] | None:
    """Where each of `names` stands among others; None unless both are the same names in some order.

    Case, "-", "_" and spaces do not matter, where names are told apart without them.
    """
    for spelled in (list, _plain):
        ours, theirs = spelled(names), spelled(among)
        if len(set(ours)) == len(ours) and sorted(ours) == sorted(theirs):
            return [theirs.index(name) for name in ours]
    return None


def _plain(names: Sequence[str]) -> list[str]:
    return [name.lower().replace("-", "").replace("_", "").replace(" ", "") for name in names]
