"""Pretrained models that come within a Python package: downloaded, unpacked, never installed.

pip download --no-deps antiberty==0.1.3 --dest DOWNLOADS
"""

from __future__ import annotations

import argparse
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def parser(description: str | None, *, data: str) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=description)
    made.add_argument("wheel", type=Path, help="the downloaded .whl file")
    made.add_argument("--output", type=Path, required=True, help="a new folder: the model and its preprocessing")
    made.add_argument("--data", type=Path, default=Path(data), help="to measure it on")
    return made


@contextmanager
def unpacked(wheel: Path) -> Iterator[Path]:
    """A temporary folder with the files of a wheel."""
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
        yield Path(folder)


def read_vocabulary(file: Path) -> dict[str, int]:
    """Token -> id, of a vocab.txt with one token a line."""
    return {token: i for i, token in enumerate(file.read_text(encoding="utf-8").splitlines())}
