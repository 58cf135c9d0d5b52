"""The command line: `inhibit`."""

from .app import main

__all__ = ["main"]
