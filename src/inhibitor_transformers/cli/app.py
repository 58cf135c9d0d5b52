"""The `inhibit` command: its sub-commands, and how their errors are told."""

from __future__ import annotations

import os
import sys

import typer
from rich.console import Console

from . import convert, distill, env, evaluate, finetune, quickstart

app = typer.Typer(
    name="inhibit",
    help="Inhibitor attention (Manhattan distances, additions and ReLU): distil, fine-tune and measure encoders.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (quickstart, convert, distill, finetune, evaluate, env):
    app.command()(getattr(command, command.__name__.rpartition(".")[2]))


def main() -> None:
    """Run the command line; an expected error is one line on stderr and exit status 2, an interruption 130."""
    try:
        app()
    except (ValueError, OSError, FloatingPointError) as error:
        if os.environ.get("INHIBIT_TRACEBACK"):
            raise
        Console(stderr=True).print(f"error: {error}", style="bold red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        Console(stderr=True).print("interrupted; the same command with --resume goes on", markup=False)
        sys.exit(130)
