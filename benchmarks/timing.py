"""Times sides that take turns in one process, so that what disturbs the machine disturbs all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

Sides = dict[str, Callable[[], object]]


@dataclass(frozen=True)
class Budget:
    """At least `rounds` rounds, and more (up to `most`) while `seconds` of wall time last; a first one warms up."""

    rounds: int
    seconds: float
    most: int = 300
    warm_up: bool = True


@dataclass(frozen=True)
class Summary:
    """Seconds of one side. The sum of two is the time of one call after the other."""

    minimum: float
    median: float
    rounds: int

    def __add__(self, other: Summary) -> Summary:
        rounds = min(self.rounds, other.rounds)
        return Summary(self.minimum + other.minimum, self.median + other.median, rounds)


Times = dict[str, Summary]


def clock() -> Callable[[], float]:
    """CPU seconds of the calling thread where that is all that works, wall seconds otherwise."""
    return time.thread_time if torch.get_num_threads() == 1 else time.perf_counter


def clock_name() -> str:
    """What `clock` counts, for the line above a table."""
    return "CPU seconds of the thread" if clock() is time.thread_time else "wall seconds"


def interleave(sides: Sides, budget: Budget) -> Times:
    """Time every side in every round; each round starts with another side."""
    now, names = clock(), list(sides)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    end, turn = time.perf_counter() + budget.seconds, 0
    if budget.warm_up:
        for side in sides.values():
            side()
    while names and (turn < budget.rounds or (turn < budget.most and time.perf_counter() < end)):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            start = now()
            sides[name]()
            seconds[name].append(now() - start)
        turn += 1
    return {name: Summary(min(s), statistics.median(s), turn) for name, s in seconds.items()}
