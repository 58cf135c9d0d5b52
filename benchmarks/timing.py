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

    def __truediv__(self, calls: int) -> Summary:
        return Summary(self.minimum / calls, self.median / calls, self.rounds)


Times = dict[str, Summary]


def clock() -> Callable[[], float]:
    """CPU seconds of the calling thread where that is all that works, wall seconds otherwise."""
    return time.thread_time if torch.get_num_threads() == 1 else time.perf_counter


def clock_name() -> str:
    """What `clock` counts, for the line above a table."""
    return "CPU seconds of the thread" if clock() is time.thread_time else "wall seconds"


def stopwatch(device: torch.device, now: Callable[[], float] | None = None) -> Callable[[Callable[[], object]], float]:
    """Seconds of a call: between two events of the device on a GPU, else as `now` counts, by default `clock`."""
    if device.type == "cuda":
        return _between_events
    now = now or clock()

    def seconds(call: Callable[[], object]) -> float:
        start = now()
        call()
        return now() - start

    return seconds


def _between_events(call: Callable[[], object]) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    call()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3


CPU = torch.device("cpu")


def interleave(
    sides: Sides, budget: Budget, device: torch.device = CPU, now: Callable[[], float] | None = None
) -> Times:
    """Time every side in every round; each round starts with another side. `now` counts seconds on a CPU."""
    time_of, names = stopwatch(device, now), list(sides)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    end, turn = time.perf_counter() + budget.seconds, 0
    if budget.warm_up:
        for side in sides.values():
            side()
    while names and (turn < budget.rounds or (turn < budget.most and time.perf_counter() < end)):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            seconds[name].append(time_of(sides[name]))
        turn += 1
    return {name: Summary(min(s), statistics.median(s), turn) for name, s in seconds.items()}
