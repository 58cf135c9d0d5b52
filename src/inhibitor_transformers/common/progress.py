"""Progress of a long phase on stderr: a bar on a terminal, else a plain line from time to time.

Nothing is shown unless somebody asks for it with `showing_progress`, as the command line does: a library is silent.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, Protocol, TextIO, TypeVar

from tqdm import tqdm

T = TypeVar("T")
Advance = Callable[[int], Any]
Log = Callable[[str], None]  # receives messages of one line

_TICK = 1.0  # seconds after which a bar's clock goes on, however long one step takes
_FIRST_LINE = 10.0  # seconds after which a phase gets its first line; the next comes when twice the time has passed,
_LONGEST_PAUSE = 60.0  # or after so many seconds
_LONGEST_NAME = 34
# How torchrun, accelerate launch and MPI tell a process its number.
_RANKS = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")

_asked_by: int | None = None  # the process that is to show progress; one forked from it is another
_running: list[_Phase] = []


@contextmanager
def showing_progress() -> Iterator[None]:
    """While inside, this process shows progress, unless it is one of several and not the first."""
    global _asked_by
    before = _asked_by
    _asked_by = os.getpid() if _is_first_process() else None
    try:
        with _messages_above_bars():
            yield
    finally:
        for phase in reversed(_running):  # of loops that an error has left, but not yet ended
            phase.close()
        _asked_by = before


@contextmanager
def progress(what: str, total: int | None = None, unit: str = "") -> Iterator[Advance]:
    """`with progress("tokenizing", len(texts)) as advance: … advance(100)`.

    what: the phase, in a few words. total: how often it will advance, None if that is unknown. unit: of what; a phase
    without total and unit is not counted.
    """
    if _asked_by != os.getpid():
        yield lambda _: None
        return
    phase = _Phase(_Bar(what, total, unit) if can_redraw(sys.stderr) else _Lines(what, total, unit))
    try:
        yield phase.shown.advance
    finally:
        phase.close()


def track(items: Iterable[T], what: str, total: int | None = None, unit: str = "") -> Iterator[T]:
    """The items, with `progress` as they are taken; total is their number, if they know it."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    with progress(what, total, unit) as advance:
        for item in items:
            yield item
            advance(1)


def can_redraw(stream: TextIO | None) -> bool:
    """Whether a line that was written to `stream` can be written anew: on a terminal, in no log."""
    plain = os.environ.get("TERM") in ("dumb", "unknown") or bool(os.environ.get("CI"))
    return stream is not None and stream.isatty() and not plain


def above_bars() -> AbstractContextManager[None]:
    """While inside, no bar is on the terminal, so that what is written does not run into one."""
    return tqdm.external_write_mode()


class _Shown(Protocol):
    def advance(self, count: int) -> Any: ...
    def tick(self) -> Any: ...
    def close(self) -> Any: ...


class _Bar:
    """A bar on the terminal, gone when the phase ends."""

    def __init__(self, what: str, total: int | None, unit: str) -> None:
        name = what if len(what) <= _LONGEST_NAME else what[: _LONGEST_NAME - 1] + "…"
        unit = f" {unit}" if unit else ""
        # The count comes before the bar: a narrow terminal cuts the end.
        known = f"{{desc}} {{n_fmt}}/{{total_fmt}}{unit} |{{bar}}| {{elapsed}}<{{remaining}}"
        unknown = f"{{desc}} {{n_fmt}}{unit}, {{elapsed}}" if unit else "{desc}, {elapsed}"
        self._bar = tqdm(
            desc=name,
            total=total,
            bar_format=unknown if total is None else known,
            leave=False,
            dynamic_ncols=True,
            file=sys.stderr,
        )
        self.advance, self.tick, self.close = self._bar.update, self._bar.refresh, self._bar.close


class _Lines:
    """Lines that say how far a phase is, ever more rarely; one that soon ends, or counts nothing, says nothing."""

    def __init__(self, what: str, total: int | None, unit: str) -> None:
        self._what, self._of = what, ("" if total is None else f" of {total:,}") + (f" {unit}" if unit else "")
        self._count, self._since, self._due = 0, time.monotonic(), _FIRST_LINE

    def advance(self, count: int) -> None:
        self._count += count

    def tick(self) -> None:
        seconds = time.monotonic() - self._since
        if self._count and seconds >= self._due:
            self._due = seconds + min(seconds, _LONGEST_PAUSE)
            print(f"{self._what}: {self._count:,}{self._of}, {seconds:.0f} s", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Nothing is left to do."""


class _Phase:
    """What is shown of a phase, and the thread that keeps it going while a step takes long."""

    def __init__(self, shown: _Shown) -> None:
        self.shown = shown
        self._ended = threading.Event()
        self._clock = threading.Thread(target=self._run, daemon=True)
        _running.append(self)
        self._clock.start()

    def _run(self) -> None:
        while not self._ended.wait(_TICK):
            self.shown.tick()

    def close(self) -> None:
        if not self._ended.is_set():
            self._ended.set()
            self._clock.join()
            self.shown.close()
            _running.remove(self)


class _AboveBars(logging.StreamHandler):
    """Writes what nobody else handles, as logging itself does, to stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        with above_bars():
            super().emit(record)


@contextmanager
def _messages_above_bars() -> Iterator[None]:
    """While inside, warnings and the package's log do not run into a bar."""
    if not can_redraw(sys.stderr):
        yield
        return
    logger, handler = logging.getLogger(__name__.partition(".")[0]), _AboveBars()
    show = warnings.showwarning

    def show_above(*arguments: Any, **options: Any) -> None:
        with above_bars():
            show(*arguments, **options)

    with ExitStack() as stack:
        warnings.showwarning = show_above
        stack.callback(setattr, warnings, "showwarning", show)
        if not logger.hasHandlers():
            logger.addHandler(handler)
            stack.callback(logger.removeHandler, handler)
        yield


def _is_first_process() -> bool:
    return all(os.environ.get(name, "0") == "0" for name in _RANKS)
