"""Whether two models read the same tokens, without which their outputs cannot be compared."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import zip_longest

from transformers import PreTrainedTokenizerBase

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
