"""Orders and batches of examples."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from inhibitor_transformers.tasks.modalities import Examples, Selection, draw, in_batches


class Numbers(Examples):
    """Example i is the number i."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def batch(self, indices: Sequence[int]) -> dict[str, Tensor]:
        return {"x": torch.tensor(list(indices))}


def numbers(examples: Examples) -> list[int]:
    return examples.batch(range(len(examples)))["x"].tolist()


def test_a_draw_holds_each_once_and_depends_on_the_seed_alone() -> None:
    drawn = numbers(draw(Numbers(50), seed=3))
    assert sorted(drawn) == list(range(50))
    assert drawn == numbers(draw(Numbers(50), seed=3))
    assert drawn != numbers(draw(Numbers(50), seed=4))


def test_fewer_are_the_first_of_all() -> None:
    assert numbers(draw(Numbers(50), 7, seed=3)) == numbers(draw(Numbers(50), seed=3))[:7]
    assert len(draw(Numbers(5), 7)) == 5


def test_a_draw_of_none_is_refused() -> None:
    with pytest.raises(ValueError, match="must be at least 1, got 0"):
        draw(Numbers(5), 0)


def test_a_selection_of_a_selection() -> None:
    assert numbers(Selection(Selection(Numbers(9), [8, 2, 5]), [2, 0])) == [5, 8]


def test_batches_hold_everything_in_order() -> None:
    assert [batch["x"].tolist() for batch in in_batches(Numbers(7), 3)] == [[0, 1, 2], [3, 4, 5], [6]]
