"""Models as programs of torch.export."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.export import Dim, ExportedProgram
from transformers import PreTrainedModel

from .tracing import Traceable, dynamic_axes, sample_inputs


@torch.no_grad()
def trace(model: PreTrainedModel, traceable: Traceable) -> ExportedProgram:
    """`traceable`, a form of `model`, for any batch and for every length that the model allows."""
    limits = {"length": model.config.max_position_embeddings}
    axes = dynamic_axes(model)
    dims = {name: Dim(name, min=1, max=limits.get(name)) for named in axes.values() for name in named.values()}
    dynamic_shapes = {name: {axis: dims[of] for axis, of in named.items()} for name, named in axes.items()}
    return torch.export.export(traceable.eval(), (), next(sample_inputs(model)), dynamic_shapes=dynamic_shapes)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what torch has to say about itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield
