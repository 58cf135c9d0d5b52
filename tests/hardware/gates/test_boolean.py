from __future__ import annotations

import numpy as np
import pytest

from inhibitor_transformers.hardware.gates.boolean import compile_function, truth_table


@pytest.mark.parametrize(
    ("text", "pins", "table"),
    [
        ("A", "A", (0, 1)),
        ("(!A)", "A", (1, 0)),
        ("A'", "A", (1, 0)),
        ("(A B)", "AB", (0, 0, 0, 1)),
        ("A*B", "AB", (0, 0, 0, 1)),
        ("A&B", "AB", (0, 0, 0, 1)),
        ("A+B", "AB", (0, 1, 1, 1)),
        ("A|B", "AB", (0, 1, 1, 1)),
        ("A^B", "AB", (0, 1, 1, 0)),
        ("A+B C", "ABC", (0, 0, 0, 1, 1, 1, 1, 1)),
        ("A B^C", "ABC", (0, 0, 0, 0, 0, 1, 1, 0)),
        ("(!((S A) + (!S B)))", "ABS", (1, 1, 0, 1, 1, 0, 0, 0)),
    ],
)
def test_functions(text: str, pins: str, table: tuple[int, ...]) -> None:
    assert truth_table(compile_function(text, tuple(pins)), len(pins)) == table


def test_every_bit_of_a_word_is_a_case() -> None:
    a, b = np.random.default_rng(0).integers(0, 2**64, (2, 5), dtype=np.uint64)
    assert np.array_equal(compile_function("!(A^B)", ("A", "B"))(a, b), ~(a ^ b))


@pytest.mark.parametrize("text", ["", "A+", "(A", "A)", "C", "A-B", "__import__('os')", "A B)"])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="function"):
        compile_function(text, ("A", "B"))
