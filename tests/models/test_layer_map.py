"""Rules that say which teacher layer each student layer is made from."""

from __future__ import annotations

import re
from typing import Any

import pytest

from inhibitor_transformers.models import LayerMap, map_layers

RULES = 'write "all", "every 2nd", "first 3", "last 3", or a list such as "0,2,4" or [0, 2, 4]'


@pytest.mark.parametrize(
    ("rule", "depth", "layers"),
    [
        ("all", 4, (0, 1, 2, 3)),
        (" ALL ", 1, (0,)),
        ("every 1st", 3, (0, 1, 2)),
        ("every 2nd", 12, (0, 2, 4, 6, 8, 10)),
        ("every 2nd", 5, (0, 2, 4)),
        ("every 2", 4, (0, 2)),
        ("every 3rd", 6, (0, 3)),
        ("Every 4th", 3, (0,)),
        ("first 3", 6, (0, 1, 2)),
        ("last 3", 6, (3, 4, 5)),
        ("last 6", 6, (0, 1, 2, 3, 4, 5)),
        ("0,2,4,7,9,11", 12, (0, 2, 4, 7, 9, 11)),
        ("0, 2 ,  5", 6, (0, 2, 5)),
        ("3", 6, (3,)),
        ("-1", 6, (5,)),
        ("0,-1", 6, (0, 5)),
        ([0, 2], 3, (0, 2)),
        ((2, 0, 0), 3, (2, 0, 0)),
        ([-3], 3, (0,)),
        (range(0, 6, 2), 6, (0, 2, 4)),
    ],
)
def test_rules(rule: Any, depth: int, layers: tuple[int, ...]) -> None:
    layer_map = map_layers(rule, depth)
    assert layer_map == LayerMap(layers, depth)
    assert len(layer_map) == len(layers)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("every 0th", "layer rule 'every 0th' selects no layer of a teacher with 6"),
        ("first 0", "layer rule 'first 0' selects no layer of a teacher with 6"),
        ([], "layer rule [] selects no layer of a teacher with 6"),
        ("last 7", "layer rule 'last 7' asks for 7 layers; the teacher has 6"),
        ("first 7", "layer rule 'first 7' asks for 7 layers; the teacher has 6"),
        ("0,6", "the teacher has layers 0 to 5; layer rule '0,6' asks for [6]"),
        ([5, -7, 9], "the teacher has layers 0 to 5; layer rule [5, -7, 9] asks for [-7, 9]"),
        ("middle 2", f"cannot read layer rule 'middle 2'; {RULES}"),
        ("every second", f"cannot read layer rule 'every second'; {RULES}"),
        ("0;2", f"cannot read layer rule '0;2'; {RULES}"),
        ("0,,2", f"cannot read layer rule '0,,2'; {RULES}"),
        ("", f"cannot read layer rule ''; {RULES}"),
        ("last -1", f"cannot read layer rule 'last -1'; {RULES}"),
        ("1.5", f"cannot read layer rule '1.5'; {RULES}"),
        (2, f"cannot read layer rule 2; {RULES}"),
        (None, f"cannot read layer rule None; {RULES}"),
        ([0, 1.5], f"cannot read layer rule [0, 1.5]; {RULES}"),
        (["0", "2"], f"cannot read layer rule ['0', '2']; {RULES}"),
        ([True], f"cannot read layer rule [True]; {RULES}"),
    ],
)
def test_rules_that_make_no_sense(rule: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        map_layers(rule, 6)


def test_table() -> None:
    assert map_layers("0,7,11", 12).table() == "student 0 ← teacher 0\nstudent 1 ← teacher 7\nstudent 2 ← teacher 11"
