"""Nothing of size Nq × Nk × D is ever allocated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from inhibitor_transformers.attention import inhibition_scores, inhibitor_attention
from inhibitor_transformers.attention.reference import CHUNK_ELEMENTS
from tests.attention.cases import SCALARS, Shape, chunks_of, random_bools, random_inputs


class LargestAllocation(TorchDispatchMode):
    """Records the bytes of the largest storage that any operation returns, forward and backward."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = function(*args, **kwargs or {})
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self.bytes = max(self.bytes, leaf.untyped_storage().nbytes())
        return result


def inputs_of(shape: Shape) -> dict[str, Tensor]:
    return {name: t.requires_grad_() for name, t in random_inputs(shape, dtype=torch.float32).items()}


def masks_of(shape: Shape) -> dict[str, Any]:
    return {
        "key_padding_mask": random_bools(1, shape.batch, shape.keys),
        "attn_mask": random_bools(2, shape.queries, shape.keys),
        "is_causal": True,
    }


@pytest.mark.parametrize("masked", [False, True], ids=["no mask", "all masks"])
@pytest.mark.parametrize("train", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize(
    ("chunk", "shape"),
    [
        (4096, Shape(batch=2, heads=2, kv_heads=1, queries=33, keys=31, features=16, value_features=16)),
        (4096, Shape(batch=1, heads=2, kv_heads=2, queries=65, keys=63, features=9, value_features=32)),
        (4096, Shape(batch=40, heads=2, kv_heads=2, queries=5, keys=7, features=16, value_features=16)),
        (CHUNK_ELEMENTS, Shape(batch=1, heads=1, kv_heads=1, queries=320, keys=320, features=64, value_features=64)),
    ],
    ids=["small chunks", "wide values", "many batch rows", "as shipped"],
)
def test_temporaries_stay_below_the_limit(shape: Shape, chunk: int, train: bool, masked: bool) -> None:
    inputs, masks = inputs_of(shape), masks_of(shape) if masked else {}
    with chunks_of(chunk), torch.set_grad_enabled(train), LargestAllocation() as largest:
        output = inhibitor_attention(**inputs, **masks, engine="reference")
        if train:
            torch.autograd.grad(output.sum(), list(inputs.values()))
    limit = max(4 * chunk, *(4 * t.numel() for t in (*inputs.values(), output)))
    all_at_once = 4 * shape.batch * shape.heads * shape.queries * shape.keys * shape.features
    assert all_at_once >= 4 * limit, "the case would not show a difference"
    assert largest.bytes <= limit


def test_scores_allocate_no_more_than_their_result() -> None:
    shape = Shape(batch=1, heads=2, kv_heads=2, queries=64, keys=64, features=32)
    inputs = inputs_of(shape)
    with chunks_of(4096), torch.no_grad(), LargestAllocation() as largest:
        z = inhibition_scores(inputs["query"], inputs["key"])
    assert largest.bytes == 4 * z.numel() < 4 * z.numel() * shape.features


def test_graph_keeps_inputs_not_pairs() -> None:
    """In training the chunks are recomputed: what autograd saves grows with N, not with N²."""
    shape = Shape(batch=1, heads=2, kv_heads=2, queries=256, keys=256, features=8, value_features=8)
    inputs, saved = inputs_of(shape), []

    def keep(tensor: Tensor) -> Tensor:
        saved.append(tensor.untyped_storage())
        return tensor

    with chunks_of(8192), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = inhibitor_attention(**inputs, engine="reference")
    assert output.requires_grad
    distinct = {storage.data_ptr(): storage.nbytes() for storage in saved}
    linear = 4 * sum(inputs[name].numel() for name in ("query", "key", "value", *SCALARS))
    assert sum(distinct.values()) <= 4 * linear
    assert 4 * linear < 4 * shape.heads * shape.queries * shape.keys
