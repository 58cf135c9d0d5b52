"""An output must not be, contain or lie inside anything that the command reads: writing would destroy it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from .errors import ConfigError
from .paths import expand_user, resolve_links

Source = str | os.PathLike[str] | None
Sources = Mapping[str, Source | Iterable[Source]]


def require_apart(output: str | os.PathLike[str], inputs: Sources) -> None:
    """Raise ConfigError if `output` is, contains or lies inside one of `inputs`; changes nothing.

    Paths are compared by what they lead to, through links, relative parts and other mounts of the same place. A link
    that leads to itself is refused too.

    Args:
        output: the file or folder that is to be written; it need not be there.
        inputs: a path, several or None, by the name that the message shall call it. A string that names nothing here
            is passed over, since it may be a Hub id; a Path is one that may yet be made, such as a cache.
    """
    place = expand_user(output)
    for name, given in inputs.items():
        several = [given] if given is None or isinstance(given, str | os.PathLike) else list(given)
        for source in several:
            path = None if source is None else expand_user(source)
            if path is None or (isinstance(source, str) and not os.path.lexists(path)):
                continue
            if relation := _relation(place, path):
                raise ConfigError(f"the output {output} {relation} the {name} {source}; choose another output")


def _relation(output: Path, source: Path) -> str | None:
    """How the output touches the source; None where it does not."""
    if _identities(output) & _identities(source):
        return "is"
    if _identities(output) & _above(source):
        return "contains"
    if _identities(source) & _above(output):
        return "lies inside"
    link = next((link for link in _links(source) if _identities(output) & ({*_identities(link)} | _above(link))), None)
    return None if link is None else f"contains what {link} points to, a part of"


def _spellings(path: Path) -> set[Path]:
    """As it was written, and where it leads."""
    return {Path(os.path.abspath(path)), resolve_links(path)}


def _identities(path: Path) -> set[object]:
    """The names of a path and, where it is there, its place on the disk."""
    found: set[object] = set(_spellings(path))
    if path.exists():
        found.add(_on_disk(path))
    return found


def _above(path: Path) -> set[object]:
    """The identities of every folder above a path."""
    folders = {folder for spelling in _spellings(path) for folder in spelling.parents}
    return {*folders, *(_on_disk(folder) for folder in folders if folder.exists())}


def _on_disk(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _links(source: Path) -> Iterator[Path]:
    """The links inside a folder; a model's weights may be kept elsewhere."""
    for folder, folders, files in os.walk(source):
        yield from (path for name in (*folders, *files) if (path := Path(folder, name)).is_symlink())
