"""Runs `inhibit` as the tests of the command line do."""

from tests.cli.conftest import inhibit

__all__ = ["inhibit"]
