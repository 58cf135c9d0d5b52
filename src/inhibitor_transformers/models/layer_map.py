"""Maps each student layer to the teacher layer that it is copied from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_RULES = '"all", "every 2nd", "first 3", "last 3", or a list such as "0,2,4" or [0, 2, 4]'


@dataclass(frozen=True)
class LayerMap:
    """`teacher_layers[i]` is the teacher layer (from 0) that student layer i is copied from and compared with."""

    teacher_layers: tuple[int, ...]
    teacher_depth: int

    def __len__(self) -> int:
        return len(self.teacher_layers)

    def table(self) -> str:
        """One line per student layer: "student 3 ← teacher 7"."""
        return "\n".join(f"student {i} ← teacher {t}" for i, t in enumerate(self.teacher_layers))


def map_layers(rule: str | Sequence[int], teacher_depth: int) -> LayerMap:
    """The layer map that a rule gives for a teacher of `teacher_depth` layers.

    Args:
        rule: "all", "every 2nd" (0, 2, 4, …), "first 3", "last 3", "0,2,4,7,9,11" or a list of ints;
            negative numbers count from the end.

    Raises ValueError for a rule that cannot be read, or that names a layer the teacher does not have.
    """
    layers = _read(rule, teacher_depth) if isinstance(rule, str) else _as_list(rule)
    if not layers:
        raise ValueError(f"layer rule {rule!r} selects no layer of a teacher with {teacher_depth}")
    beyond = [i for i in layers if not -teacher_depth <= i < teacher_depth]
    if beyond:
        raise ValueError(f"the teacher has layers 0 to {teacher_depth - 1}; layer rule {rule!r} asks for {beyond}")
    return LayerMap(tuple(i % teacher_depth for i in layers), teacher_depth)


def _as_list(rule: Sequence[int]) -> list[int]:
    if isinstance(rule, Iterable):
        layers = list(rule)
        if all(type(i) is int for i in layers):
            return layers
    raise ValueError(f"cannot read layer rule {rule!r}; write {_RULES}")


def _read(rule: str, depth: int) -> list[int]:
    text = rule.strip().lower()
    if text == "all":
        return list(range(depth))
    if match := re.fullmatch(r"every (\d+)(st|nd|rd|th)?", text):
        step = int(match[1])
        return list(range(0, depth, step)) if step else []
    if match := re.fullmatch(r"(first|last) (\d+)", text):
        count = int(match[2])
        if count > depth:
            raise ValueError(f"layer rule {rule!r} asks for {count} layers; the teacher has {depth}")
        return list(range(depth))[:count] if match[1] == "first" else list(range(depth))[depth - count :]
    if re.fullmatch(r"-?\d+(\s*,\s*-?\d+)*", text):
        return [int(part) for part in text.split(",")]
    raise ValueError(f"cannot read layer rule {rule!r}; write {_RULES}")
