"""torch.export: a program in ATen's operators, which needs nothing but torch, and one that calls our operator."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from pathlib import Path

import torch
from torch.export import ExportedProgram
from transformers import PreTrainedModel

from ...attention.cpu.library import UnavailableError
from ...models.saving import writing
from ..runtimes import torch_operator
from .operator import with_operator
from .plain import with_plain_attention
from .runtime import Precision, Run, Runtime
from .torch_program import quiet, trace
from .torch_sums import torch_sums
from .tracing import Traceable

logger = logging.getLogger(__name__)


def _write(model: PreTrainedModel, file: Path) -> None:
    _save(trace(model, Traceable(with_plain_attention(model, torch_sums))), file)
    try:
        operator = torch_operator.load()
    except UnavailableError as reason:
        logger.warning("%s was not written: %s", _with_operator(file).name, reason)
        return
    _save(trace(model, Traceable(with_operator(model, operator))), _with_operator(file))


def _save(program: ExportedProgram, file: Path) -> None:
    package = io.BytesIO()  # written to a file, torch would end the process where the disk has no room
    with quiet():
        torch.export.save(program, package)
    with writing(file):
        file.write_bytes(package.getbuffer())


def _with_operator(file: Path) -> Path:
    """model.operator.pt2 beside model.pt2."""
    return file.with_suffix(f".operator{file.suffix}")


def _runs(file: Path, precision: str) -> Iterator[tuple[str, Run]]:
    yield f"standard operators ({file.name})", _run(file)
    if (other := _with_operator(file)).exists():
        torch_operator.load()
        yield f"operator ({other.name})", _run(other)


def _run(file: Path) -> Run:
    module = torch.export.load(file).module()
    return torch.no_grad()(lambda inputs: module(**inputs))


TORCH = Runtime("torch", "model.pt2", (), "", {"float32": Precision(_write)}, _runs)
