"""The interface of an export format."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from transformers import PreTrainedModel

from .tracing import Tensors

Run = Callable[[Tensors], Tensors]


class Format(NamedTuple):
    """`write(model, file)` exports, `load(file)` returns the exported model, to be called with named inputs."""

    name: str
    file: str
    packages: tuple[str, ...]
    write: Callable[[PreTrainedModel, Path], None]
    load: Callable[[Path], Run]

    def require_packages(self) -> None:
        """Raise ValueError, saying what to install, if a package is missing."""
        if missing := [name for name in self.packages if find_spec(name) is None]:
            raise ValueError(
                f"the format {self.name} needs {', '.join(missing)}: pip install 'inhibitor-transformers[onnx]'"
            )
