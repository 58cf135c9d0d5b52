"""Saves models and tokenizers; a full disk is an OSError, whichever library was writing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from safetensors import SafetensorError
from transformers import PreTrainedModel

# What torch says when it could not write an archive.
_TORCH = re.compile(r"PytorchStreamWriter|inline_container|unexpected pos")


class Savable(Protocol):
    """A tokenizer, an image processor, a feature extractor."""

    def save_pretrained(self, save_directory: Any, /) -> Any: ...


class WriteError(OSError):
    """Something cannot be written; the message names it and the reason."""


def save_model(folder: Path, model: PreTrainedModel, preprocessor: Savable) -> None:
    """Save both in `folder`. Raises WriteError if that cannot be written."""
    with writing(folder):
        model.save_pretrained(folder)
        preprocessor.save_pretrained(folder)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """While inside, whatever says that `path` cannot be written is a WriteError.

    safetensors raises a class of its own, tokenizers a bare Exception, torch a RuntimeError.
    """
    try:
        yield
    except WriteError:
        raise
    except OSError as error:
        raise WriteError(f"cannot write {path}: {error.strerror or error}") from error
    except SafetensorError as error:
        raise WriteError(f"cannot write {path}: {_reason(error)}") from error
    except Exception as error:
        if type(error) is Exception or (isinstance(error, RuntimeError) and _TORCH.search(str(error))):
            raise WriteError(f"cannot write {path}: {_reason(error)}") from error
        raise


def _reason(error: Exception) -> str:
    if _TORCH.search(str(error)):
        return "torch could not write all of it; is there room on the disk?"
    return str(error).strip().split("\n")[0] or type(error).__name__
