"""The `inhibit` command: its sub-commands, and how their errors are told."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand

from ..common.paths import expand_user
from ..common.progress import progress, showing_progress
from . import convert, distill, env, evaluate, export, finetune, hardware, quantize, quickstart, report, study
from .console import log_to_stderr
from .encrypted import COMMANDS as ENCRYPTED_COMMANDS

_SLOW = ("torch", "datasets", "transformers.modeling_utils")  # packages whose import takes seconds
_RENAMED = {"--start": "--init-from", "--dot-product": "--softmax", "--format": "--runtime"}
_INTERRUPTED = 130  # what typer exits with after Ctrl-C

_PLAIN: dict[str, Any] = {
    "no_args_is_help": True,
    "add_completion": False,
    "pretty_exceptions_enable": False,
    "rich_markup_mode": None,
}

app = typer.Typer(
    name="inhibit",
    help="Transformer encoders with inhibitor attention (Manhattan distances and ReLU instead of dot products and "
    "softmax): convert, distill, fine-tune, evaluate, quantize and export them.",
    **_PLAIN,
)
_encrypted = typer.Typer(
    name="encrypted", help="Classify data that the server cannot read: plan, compile, keys, serve, ask.", **_PLAIN
)


class _Command(TyperCommand):
    """Refuses a former option by its new name."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        known = {name for parameter in self.params for name in parameter.opts}
        for given in args:
            name = given.partition("=")[0]
            if name not in known and (renamed := _RENAMED.get(name)) in known:
                raise ValueError(f"no such option {name}: it is called {renamed} now")
        return super().parse_args(ctx, args)


def _with_progress(command: Callable[..., None], packages: tuple[str, ...]) -> Callable[..., None]:
    """Let a command show from its first second on how far it is, and take paths that begin with "~" (--output=~/x)."""

    @wraps(command)
    def run(*arguments: Any, **options: Any) -> None:
        with showing_progress():
            with progress("loading"):
                for name in packages:
                    import_module(name)
            command(*arguments, **{name: _path_at_home(value) for name, value in options.items()})

    return run


def _path_at_home(value: Any) -> Any:
    """A path with the home folder in place of "~", which shells leave in --output=~/x; any other value as it is."""
    return expand_user(value) if isinstance(value, Path) else value


for module in (quickstart, convert, distill, finetune, study, evaluate, report, quantize, export, hardware, env):
    command = getattr(module, module.__name__.rpartition(".")[2])
    app.command(cls=_Command)(_with_progress(command, ("torch",) if module is env else _SLOW))
for command in ENCRYPTED_COMMANDS:  # in an environment that lacks what the others need
    _encrypted.command(cls=_Command)(_with_progress(command, ()))
app.add_typer(_encrypted)


def main() -> None:
    """Run the command line; an expected error is one line on stderr and exit status 2, an interruption 130."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a result is not lost to an encoding without, say, a minus sign
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        app(prog_name="inhibit")
    except Exception as error:
        if os.environ.get("INHIBIT_TRACEBACK") or not _is_expected(error):
            raise
        line = " ".join(str(error).split()) or type(error).__name__
        log_to_stderr(f"error: {line}", style="bold red")
        sys.exit(2)
    except SystemExit as stopped:
        if stopped.code == _INTERRUPTED:
            log_to_stderr("interrupted; distill and finetune go on with --resume")
        raise


def _is_expected(error: Exception) -> bool:
    """Whether it is about what was asked or about this machine; anything else is our fault and a traceback."""
    if isinstance(error, ValueError | OSError | FloatingPointError | MemoryError):
        return True
    # torch's, which `inhibit --help` must not import: of a GPU, and of the processor
    return isinstance(error, RuntimeError) and (
        type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)
    )
