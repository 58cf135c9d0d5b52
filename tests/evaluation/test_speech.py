"""Word error rate: normalization, edit distance, rate."""

from __future__ import annotations

import itertools

import pytest

from inhibitor_transformers.evaluation.speech import normalize, word_error_rate, word_errors


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (" Five!", ["five"]),
        ("5.", ["five"]),
        ("42", ["four", "two"]),
        ("It's  THE cat,\nisn't it?", ["its", "the", "cat", "isnt", "it"]),
        ("well-kept", ["well", "kept"]),
        ("…", []),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert normalize(text) == words


def brute_force(heard: tuple[str, ...], said: tuple[str, ...]) -> int:
    if not heard or not said:
        return len(heard) + len(said)
    replaced = brute_force(heard[1:], said[1:]) + (heard[0] != said[0])
    return min(replaced, brute_force(heard[1:], said) + 1, brute_force(heard, said[1:]) + 1)


def test_word_errors_are_the_fewest_edits() -> None:
    texts = [t for n in range(4) for t in itertools.product("ab", repeat=n)]
    for heard, said in itertools.product(texts, [*texts, ("b", "c", "a", "a")]):
        assert word_errors(heard, said) == brute_force(heard, said), (heard, said)


def test_the_rate_is_of_all_words_together() -> None:
    assert word_error_rate(["One two.", "You know"], ["one three two", "0"]) == (1 + 2) / 4
    assert word_error_rate(["5"], ["five"]) == 0


def test_nothing_to_compare() -> None:
    with pytest.raises(ValueError, match="nothing was said"):
        word_error_rate(["a"], ["…"])
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        word_error_rate(["a", "b"], ["a"])
