"""A torch.export package: runs wherever torch does, without this package and without transformers."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from torch.export import Dim
from transformers import PreTrainedModel

from ...models.saving import writing
from .plain import with_plain_attention
from .runtime import Precision, Run, Runtime
from .torch_sums import torch_sums
from .tracing import Traceable, dynamic_axes, sample_inputs


@torch.no_grad()
def _write(model: PreTrainedModel, file: Path) -> None:
    limits = {"length": model.config.max_position_embeddings}
    axes = dynamic_axes(model)
    dims = {name: Dim(name, min=1, max=limits.get(name)) for named in axes.values() for name in named.values()}
    program = torch.export.export(
        Traceable(with_plain_attention(model, torch_sums)),
        (),
        next(sample_inputs(model)),
        dynamic_shapes={name: {axis: dims[of] for axis, of in named.items()} for name, named in axes.items()},
    )
    package = io.BytesIO()  # written to a file, torch would end the process where the disk has no room
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of torch, about itself
        torch.export.save(program, package)
    with writing(file):
        file.write_bytes(package.getbuffer())


def _runs(file: Path, precision: str) -> Iterator[tuple[str, Run]]:
    module = torch.export.load(file).module()
    yield "standard operators", torch.no_grad()(lambda inputs: module(**inputs))


TORCH = Runtime("torch", "model.pt2", (), "", {"float32": Precision(_write)}, _runs)
