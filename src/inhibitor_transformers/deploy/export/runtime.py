"""What a runtime offers to the export: the precisions that it serves, how they are written, and how they are run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from transformers import PreTrainedModel

from .tracing import Tensors

Run = Callable[[Tensors], Tensors]

# Of the largest number of an output. Two orders of adding up float32 differ by some 1e-6 of it after six layers of 384.
FLOAT32_TOLERANCE = 1e-4
INT8 = "int8"
# A sum that is rounded to another byte is a step away, and layers make more of it: 0.02 after six aligned layers of
# 384, 0.07 to 0.13 after six of 768 with random weights. What is wrong differs by 1.
INT8_TOLERANCE = 0.25


class Precision(NamedTuple):
    """`write(model, file)` exports; outputs differ from the model's by at most `tolerance` of their largest number."""

    write: Callable[[PreTrainedModel, Path], None]
    tolerance: float = FLOAT32_TOLERANCE


class Runtime(NamedTuple):
    """`runs(file, precision)` gives every way in which this machine can run what was written, by its name.

    extra: the extra of this package that brings `packages`. missing: what else this machine lacks; None: nothing.
    beside: what may be written beside `file`. loading(folder, precision): how to load it.
    """

    name: str
    file: str
    packages: tuple[str, ...]
    extra: str
    precisions: Mapping[str, Precision]
    runs: Callable[[Path, str], Iterator[tuple[str, Run]]]
    missing: Callable[[], str | None] = lambda: None
    beside: tuple[str, ...] = ()
    loading: Callable[[Path, str], str] = lambda folder, precision: ""

    def require(self, precision: str) -> Precision:
        """The precision of that name. Raises ValueError if it is not served, or if something is missing."""
        if precision not in self.precisions:
            served = ", ".join(self.precisions)
            raise ValueError(f"--precision must be one of {served} for the runtime {self.name}, got {precision!r}")
        if missing := [name for name in self.packages if find_spec(name) is None]:
            install = f"pip install 'inhibitor-transformers[{self.extra}]'"
            raise ValueError(f"the runtime {self.name} needs {', '.join(missing)}: {install}")
        if reason := self.missing():
            raise ValueError(f"the runtime {self.name} cannot be exported for here: {reason}")
        return self.precisions[precision]
