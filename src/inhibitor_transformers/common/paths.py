"""Paths as users write them: "~" is the home folder, and a loop of links is no path."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from .errors import ConfigError


def expand_user(path: str | os.PathLike[str]) -> Path:
    """The path with the home folder in place of a leading "~"; as in a shell, that of an unknown user stays."""
    return Path(os.path.expanduser(path))


def resolve_links(path: str | os.PathLike[str]) -> Path:
    """Where the path leads, through all links; it need not be there. Raises ConfigError for links that lead nowhere."""
    place = expand_user(path)
    try:
        place.stat()
    except OSError as error:  # Path.resolve says RuntimeError of it in some versions of Python, and nothing in others
        if error.errno == errno.ELOOP:
            raise ConfigError(_loop(path)) from None
    try:
        return place.resolve()
    except RuntimeError:
        raise ConfigError(_loop(path)) from None


def user_cache(name: str) -> Path:
    """The folder for what can be made again: inhibitor-transformers/<name> in $XDG_CACHE_HOME, or in ~/.cache.

    It need not be there.
    """
    return expand_user(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "inhibitor-transformers" / name


def require_writable(file: str | os.PathLike[str]) -> None:
    """Raise ConfigError unless `file` can be written, or made with the folders that it lacks; changes nothing."""
    place = resolve_links(file)
    if place.exists() and not place.is_file():
        raise ConfigError(f"{file} is {'a folder' if place.is_dir() else 'no regular file'}; name another file")
    above = next(folder for folder in place.parents if folder.exists())
    if not above.is_dir():
        raise ConfigError(f"{file} cannot be written: {above} is a file, not a folder; name another file")
    if not os.access(above, os.W_OK | os.X_OK):
        raise ConfigError(f"{file} cannot be written: there is no permission to write in {above}")


def _loop(path: str | os.PathLike[str]) -> str:
    return f"{path} is, or goes through, a loop of links; name another path, or mend the links"
