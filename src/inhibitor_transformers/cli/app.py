"""The `inhibit` command: its sub-commands, and how their errors are told."""

from __future__ import annotations

import os
import sys

import typer
from rich.console import Console

from . import convert, distill, env, evaluate, export, finetune, quantize, quickstart, study

_INTERRUPTED = 130  # what typer exits with after Ctrl-C

app = typer.Typer(
    name="inhibit",
    help="Inhibitor attention (Manhattan distances, additions and ReLU): distil, fine-tune and measure encoders.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (quickstart, convert, distill, finetune, study, evaluate, quantize, export, env):
    app.command()(getattr(command, command.__name__.rpartition(".")[2]))


def main() -> None:
    """Run the command line; an expected error is one line on stderr and exit status 2, an interruption 130."""
    try:
        app(prog_name="inhibit")
    except Exception as error:
        if os.environ.get("INHIBIT_TRACEBACK") or not _is_expected(error):
            raise
        line = " ".join(str(error).split()) or type(error).__name__
        _tell(f"error: {line}", style="bold red")
        sys.exit(2)
    except SystemExit as stopped:
        if stopped.code == _INTERRUPTED:
            _tell("interrupted; distill and finetune go on with --resume")
        raise


def _is_expected(error: Exception) -> bool:
    """Whether it is about what was asked or about this machine; anything else is our fault and a traceback."""
    if isinstance(error, ValueError | OSError | FloatingPointError | MemoryError):
        return True
    # torch's, which `inhibit --help` must not import: of a GPU, and of the processor
    return isinstance(error, RuntimeError) and (
        type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)
    )


def _tell(line: str, style: str | None = None) -> None:
    Console(stderr=True).print(line, style=style, markup=False, highlight=False, soft_wrap=True)
