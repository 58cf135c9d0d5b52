"""Compares the outputs of an exported model with the model's."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from .runtime import Run
from .tracing import Tensors, sample_inputs


@torch.no_grad()
def largest_difference(model: PreTrainedModel, run: Run, tolerance: float) -> float:
    """The largest difference between the outputs of `model` and `run`, over the largest number of that output.

    On batches of several sizes, lengths and paddings. Raises ValueError if it exceeds `tolerance`, or if names or
    shapes differ.
    """
    zero = torch.zeros(())
    differences: Tensors = {}
    sizes: Tensors = {}
    for inputs in sample_inputs(model):
        found, expected = run(inputs), dict(model(**inputs))
        if (ours := _shapes(found)) != (theirs := _shapes(expected)):
            shape = tuple(inputs["input_ids"].shape)
            raise ValueError(f"for input of shape {shape} the exported model returns {ours}, the model {theirs}")
        for name, there in expected.items():  # torch.maximum: a NaN stays
            differences[name] = torch.maximum(differences.get(name, zero), (found[name] - there).abs().max())
            sizes[name] = torch.maximum(sizes.get(name, zero), there.abs().max())
    largest = 0.0
    for name, difference in differences.items():
        relative = (difference / sizes[name]).item() if difference else 0.0
        if not relative <= tolerance:
            raise ValueError(
                f"the exported model is not the model: {name} differs by {relative:.1e} of its largest number, "
                f"allowed is {tolerance:.0e}; nothing was written"
            )
        largest = max(largest, relative)
    return largest


def _shapes(outputs: Tensors) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in outputs.items()}
