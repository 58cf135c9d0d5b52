"""What surrounds a call in plain torch, and tensors whose memory does not hold their numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import grad
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from inhibitor_transformers.attention import inhibitor_attention
from tests.attention.transform_cases import (
    ALL,
    MASKS,
    NAMES,
    assert_agrees,
    attention,
    directions,
    engines,
    exact,
    has_cpu,
    loss,
    tensors,
    true_derivative,
    true_gradients,
)

# Plain autograd and its surroundings


@engines
def test_third_derivatives(engine: str) -> None:
    """The second derivative, that of the reference, stays tied to what it was made of."""

    def third(engine: str, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        leaves = [t.requires_grad_() for t in given]
        value = loss(engine)(*leaves)
        for _ in range(3):
            gradients = torch.autograd.grad(value, leaves, create_graph=True)
            value = sum((g.sin() * (i + 1)).sum() for i, g in enumerate(gradients))
        return gradients

    assert_agrees(third(engine, tensors()), third("reference", exact()), tolerance=1e-4)


@engines
@pytest.mark.parametrize(
    ("strategy", "vectorize"), [("reverse-mode", False), ("reverse-mode", True), ("forward-mode", True)]
)
def test_autograd_functional(engine: str, strategy: str, vectorize: bool) -> None:
    options: dict[str, Any] = {"strategy": strategy, "vectorize": vectorize}
    if engine == "cpu" and strategy == "forward-mode":
        with pytest.raises(ValueError, match="it has no forward-mode derivatives"):
            torch.autograd.functional.jacobian(attention(engine), tensors(), **options)
        return
    expected = torch.autograd.functional.jacobian(attention("reference"), exact())
    assert_agrees(torch.autograd.functional.jacobian(attention(engine), tensors(), **options), expected)


@engines
def test_autograd_functional_products(engine: str) -> None:
    product = torch.autograd.functional.jvp(attention(engine), tensors(), directions())[1]
    assert_agrees(product, true_derivative())
    for of in (torch.autograd.functional.hvp, torch.autograd.functional.vhp):
        expected = of(loss("reference"), exact(), directions(torch.float64))[1]
        assert_agrees(of(loss(engine), tensors(), directions())[1], expected)


@engines
def test_saved_tensors_may_be_kept_elsewhere(engine: str) -> None:
    leaves = [t.requires_grad_() for t in tensors()]
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t.numpy().copy(), torch.from_numpy):
        out = loss(engine)(*leaves)
    assert_agrees(torch.autograd.grad(out, leaves), true_gradients())


@engines
@pytest.mark.parametrize("use_reentrant", [False, True], ids=["non-reentrant", "reentrant"])
def test_checkpoint_in_autocast(engine: str, use_reentrant: bool) -> None:
    leaves = [t.requires_grad_() for t in tensors()]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        checkpoint(loss(engine), *leaves, use_reentrant=use_reentrant).backward()
    assert_agrees([t.grad for t in leaves], true_gradients())


@engines
def test_inference_mode(engine: str) -> None:
    with torch.inference_mode():
        assert_agrees(attention(engine)(*tensors()), attention("reference")(*exact()))


class Watching(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.append(func)
        return func(*args, **(kwargs or {}))


@has_cpu
def test_a_dispatch_mode_sees_the_operator() -> None:
    leaves = [t.requires_grad_() for t in tensors()]
    with Watching() as watching:
        found = torch.autograd.grad(loss("cpu")(*leaves), leaves)
    assert torch.ops.inhibitor.attention.default in watching.seen
    assert torch.ops.inhibitor.attention_backward.default in watching.seen
    assert_agrees(found, true_gradients())


# Tensors whose memory does not hold their numbers


def negated(t: Tensor) -> Tensor:
    """−t as a view with torch's lazy negative bit."""
    view = torch.complex(torch.zeros_like(t), t).conj().imag
    assert view.is_neg()
    return view


@engines
@pytest.mark.parametrize("name", NAMES)
def test_a_lazily_negated_view(engine: str, name: str) -> None:
    given = dict(zip(NAMES, tensors(), strict=True))
    lazy = [negated(-t) if n == name else t for n, t in given.items()]
    assert torch.equal(attention(engine)(*lazy), attention(engine)(*given.values()))
    found = grad(loss(engine), argnums=ALL)(*lazy)
    assert_agrees(found, true_gradients())


@engines
def test_a_lazily_negated_gradient(engine: str) -> None:
    leaves = [t.requires_grad_() for t in tensors()]
    ones = torch.ones(2, 2, 3, 3)
    found = torch.autograd.grad(attention(engine)(*leaves), leaves, negated(-ones))
    assert_agrees(found, torch.autograd.grad(attention("reference")(*leaves), leaves, ones))


@engines
def test_zeros_without_memory(engine: str) -> None:
    """What forward-mode and torch's own formulas use for zero gradients."""
    q, *rest = tensors()
    zero, masked = torch._efficientzerotensor(q.shape), torch._efficientzerotensor((2, 4), dtype=torch.bool)
    assert_agrees(attention(engine)(zero, *rest), attention(engine)(torch.zeros_like(q), *rest))
    assert not attention(engine, key_padding_mask=masked)(q, *rest).any()
    leaf = q.requires_grad_()
    out = attention(engine)(leaf, *rest)
    assert not torch.autograd.grad(out, leaf, torch._efficientzerotensor(out.shape))[0].any()


class Subclass(Tensor):
    pass


@engines
def test_a_subclass_stays_one(engine: str) -> None:
    q, *rest = tensors()
    out = attention(engine)(q.as_subclass(Subclass), *rest)
    assert type(out) is Subclass
    assert_agrees(out.as_subclass(Tensor), attention("reference")(*exact()))


NOT_DENSE: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "sparse": (Tensor.to_sparse, "torch.sparse_coo"),
    "oneDNN": (Tensor.to_mkldnn, "torch._mkldnn"),
    "nested": (lambda t: torch.nested.nested_tensor(list(t)), "a nested tensor"),
    "jagged": (lambda t: torch.nested.nested_tensor(list(t), layout=torch.jagged), "a nested tensor"),
}


@engines
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("made", "name"), NOT_DENSE.values(), ids=NOT_DENSE)
def test_a_tensor_that_is_not_dense_is_refused(engine: str, made: Callable[[Tensor], Tensor], name: str) -> None:
    q, *rest = tensors()
    with pytest.raises(ValueError, match=f"query must be a dense tensor, got {name}"):
        attention(engine)(made(q), *rest)


@pytest.mark.parametrize("name", ["gamma", "key_padding_mask", "attn_mask"])
def test_sparse_scalars_and_masks_are_refused(name: str) -> None:
    given = dict(zip(NAMES, tensors(), strict=True)) | MASKS
    with pytest.raises(ValueError, match=f"{name} must be a dense tensor, got torch.sparse_coo"):
        inhibitor_attention(**given | {name: given[name].to_sparse()})
