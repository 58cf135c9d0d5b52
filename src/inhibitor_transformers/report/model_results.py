"""Data of a converted model's report: plain numbers and texts, no models."""

from __future__ import annotations

from dataclasses import dataclass

from .tables import Table


@dataclass(frozen=True)
class LayerMaps:
    """How much of each key reaches one query, in each layer, heads averaged.

    query: what it is, in words. layers: their names.
    passing: (layers, keys), the fraction of each key's value that is left after the student's inhibition, 0 to 1.
    attention: (layers, keys), the teacher's attention probability.

    Raises ValueError where the maps have not a row per layer, or rows of different lengths.
    """

    query: str
    layers: list[str]
    passing: list[list[float]]
    attention: list[list[float]]

    def __post_init__(self) -> None:
        sizes = {len(row) for row in (*self.passing, *self.attention)}
        if {len(self.passing), len(self.attention)} != {len(self.layers)} or len(sizes) > 1:
            raise ValueError(f"maps must have {len(self.layers)} rows of one length, got lengths {sorted(sizes)}")


@dataclass(frozen=True)
class Prediction:
    """The class that a model puts first, and the probability that it gives it."""

    label: str
    probability: float


@dataclass(frozen=True)
class Picture:
    """One picture, as the models see it, and what reaches the query of `maps` from each of its patches.

    png: the encoded file. size: width and height, in pixels. rows, columns: of patches; a map's keys are these, row by
    row. student, teacher: None for models without classes.
    """

    name: str
    png: bytes
    size: tuple[int, int]
    rows: int
    columns: int
    maps: LayerMaps
    student: Prediction | None
    teacher: Prediction | None

    def __post_init__(self) -> None:
        if any(len(row) != self.rows * self.columns for row in self.maps.passing):
            raise ValueError(f"the maps of {self.name} must have {self.rows} x {self.columns} keys")


@dataclass(frozen=True)
class NextToken:
    """A token of the teacher's continuation, and the student's choice in its place, fed the same text before it."""

    teacher: str
    student: str
    agrees: bool


@dataclass(frozen=True)
class Continuation:
    """What teacher and student make of one text.

    tokens: the teacher's greedy continuation. own: the student's, of which the first `common` tokens are the teacher's.
    Both are empty for models that generate nothing.
    keys: tokens that a map shows, the query the last of them. cut: how many tokens before these are not shown.
    """

    prompt: str
    tokens: list[NextToken]
    own: list[str]
    common: int
    keys: list[str]
    cut: int
    maps: LayerMaps

    @property
    def agreed(self) -> int:
        """How many of the next tokens are the teacher's."""
        return sum(token.agrees for token in self.tokens)


@dataclass(frozen=True)
class ModelReport:
    """Everything that the page of a converted model says.

    student, teacher: their names. model: the student's class. converted: as (number, of how many) attention modules.
    conversion: what computes what, and why.
    """

    student: str
    teacher: str
    model: str
    converted: tuple[int, int]
    conversion: Table
    pictures: list[Picture]
    continuations: list[Continuation]
    facts: list[tuple[str, str]]
