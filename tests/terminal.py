"""A terminal that tests write to, and what is on its screen in the end."""

from __future__ import annotations

import os
import re
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

_CONTROL = re.compile(r"\r|\n|\x1b\[(\d*)([A-Za-z])|[^\r\n\x1b]+")


class Terminal:
    """stream: its writing end, which `isatty`."""

    def __init__(self, columns: int) -> None:
        import fcntl
        import pty
        import termios

        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.stream = os.fdopen(slave, "w", encoding="utf-8")
        self._found = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        try:
            while got := os.read(self._master, 4096):
                self._found += got
        except OSError:  # how Linux says that the other end is closed
            pass

    def close(self) -> str:
        """All that was written to it."""
        if not self.stream.closed:
            self.stream.close()
            self._reader.join()
            os.close(self._master)
        return self._found.decode()


@contextmanager
def terminal(monkeypatch: pytest.MonkeyPatch, *names: str, columns: int = 80) -> Iterator[Terminal]:
    """`terminal(monkeypatch, "stderr")`: while inside, these streams of `sys` are one terminal."""
    pytest.importorskip("pty")
    for name in ("CI", "NO_COLOR", "COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)
    made = Terminal(columns)
    with monkeypatch.context() as patch:
        patch.setenv("TERM", "xterm")
        for name in names:
            patch.setattr(f"sys.{name}", made.stream)
        try:
            yield made
        finally:
            made.close()


def screen(written: str) -> list[str]:
    """The lines that stand on the screen after all this was written, without blanks at their ends."""
    lines, row, column = [""], 0, 0
    for found in _CONTROL.finditer(written):
        text, count, command = found[0], int(found[1] or 1), found[2]
        if text == "\r":
            column = 0
        elif text == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif command == "A":
            row -= count
        elif command == "K":
            lines[row] = lines[row][:column]
        elif command is None:
            lines[row] = lines[row].ljust(column)[:column] + text + lines[row][column + len(text) :]
            column += len(text)
    return [line.rstrip() for line in lines]
