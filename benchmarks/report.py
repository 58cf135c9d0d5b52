"""Markdown tables that appear row by row, in the terminal and in a file."""

from __future__ import annotations

import platform
import sys
import time
from pathlib import Path

import torch

from inhibitor_transformers.common.processor import processor_name


class Report:
    """Prints, and appends to `output`, a new file, what it prints. Ends the program if the file exists."""

    def __init__(self, output: Path | None) -> None:
        self.output = output
        if output is not None:
            try:
                output.touch(exist_ok=False)
            except OSError as error:
                raise SystemExit(f"{output}: {error.strerror}; name a new file") from error

    def line(self, text: str = "") -> None:
        print(text, flush=True)
        if self.output is not None:
            with self.output.open("a", encoding="utf-8") as file:
                file.write(text + "\n")

    def row(self, cells: list[str]) -> None:
        self.line("| " + " | ".join(cells) + " |")

    def header(self, cells: list[str]) -> None:
        self.line()
        self.row(cells)
        self.line("|" + "---|" * len(cells))


def machine() -> str:
    """Processor, system and torch, for the line above a table."""
    return f"{processor_name()}, {platform.system()} {platform.machine()}, torch {torch.__version__}"


def progress(text: str) -> None:
    """What is being measured now, with the time of day, for whoever waits."""
    print(f"{time.strftime('%X')} {text}", file=sys.stderr, flush=True)
