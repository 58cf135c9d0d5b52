"""torch.export: with the operator of this package in one library, and without.

model.pt2 calls the operator, standard.pt2 is the same model in ATen's operators, for a torch without the library, which
lies beside them. Neither needs this package or transformers.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import torch
from torch.export import ExportedProgram
from transformers import PreTrainedModel

from ...models.saving import writing
from ..runtimes import torch_operator
from .operator import with_operator
from .plain import with_plain_attention
from .runtime import Precision, Run, Runtime
from .torch_program import quiet, trace
from .torch_sums import torch_sums
from .tracing import Traceable

STANDARD = "standard.pt2"


def _write(model: PreTrainedModel, file: Path) -> None:
    with writing(file):
        torch_operator.copy_library(file.parent)
    _save(trace(model, Traceable(with_operator(model, torch_operator.load()))), file)
    _save(trace(model, Traceable(with_plain_attention(model, torch_sums))), file.with_name(STANDARD))


def _save(program: ExportedProgram, file: Path) -> None:
    package = io.BytesIO()  # written to a file, torch would end the process where the disk has no room
    with quiet():
        torch.export.save(program, package)
    with writing(file):
        file.write_bytes(package.getbuffer())


def _runs(file: Path, precision: str) -> Iterator[tuple[str, Run]]:
    torch_operator.load()
    yield "operator", _run(file)
    yield "standard operators", _run(file.with_name(STANDARD))


def _run(file: Path) -> Run:
    module = torch.export.load(file).module()
    return torch.no_grad()(lambda inputs: module(**inputs))


TORCH = Runtime(
    name="torch",
    file="model.pt2",
    packages=(),
    extra="",
    precisions={"float32": Precision(_write)},
    runs=_runs,
    beside=(STANDARD, torch_operator.FILE),
    loading=lambda folder, precision: (
        f"torch.ops.load_library('{folder}/{torch_operator.FILE}'), then torch.export.load('{folder}/model.pt2')"
        f".module(); without the library, '{folder}/{STANDARD}'"
    ),
    missing=torch_operator.unavailable,
)
