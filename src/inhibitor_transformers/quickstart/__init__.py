"""The quickstart: a real teacher, text that is already on the machine, and a report, in minutes."""

from .run import run_quickstart

__all__ = ["run_quickstart"]
