"""What surrounds a call in plain torch, and tensors whose memory does not hold their numbers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import grad, vmap
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from inhibitor_transformers.attention import inhibitor_attention
from tests.attention.cases import chunks_of
from tests.attention.transform_cases import (
    ALL,
    MASKS,
    NAMES,
    assert_agrees,
    attention,
    directions,
    engines,
    exact,
    forward_engines,
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


CHANGED: dict[str, Callable[[Tensor], Tensor]] = {
    "half": lambda t: t.half() if t.is_floating_point() else t,
    "double": lambda t: t.double() if t.is_floating_point() else t,
    "shorter": lambda t: t[..., :1] if t.dim() == 4 else t,
    "fewer rows": lambda t: t[..., :1, :] if t.dim() == 4 else t,
    "fewer heads": lambda t: t[:1],
    "elsewhere": lambda t: t.to("meta"),
    "sparse": lambda t: t.to_sparse() if t.dim() == 4 else t,
}


@has_cpu
@pytest.mark.parametrize("change", CHANGED.values(), ids=CHANGED)
@pytest.mark.parametrize("watched", [False, True], ids=["plain", "operator"])
def test_saved_tensors_that_come_back_as_others_are_refused(change: Callable[[Tensor], Tensor], watched: bool) -> None:
    """A kernel would read memory that is not there."""
    leaves = [t.requires_grad_() for t in tensors()]
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t, change), Watching() if watched else nullcontext():
        out = attention("cpu")(*leaves)
        with pytest.raises(RuntimeError, match=r"inhibitor attention saved \(.* and got back .*saved_tensors_hooks"):
            torch.autograd.grad(out.sum(), leaves)


@has_cpu
@pytest.mark.parametrize("change", CHANGED.values(), ids=CHANGED)
def test_saved_tensors_that_come_back_as_others_are_refused_after_vmap(change: Callable[[Tensor], Tensor]) -> None:
    leaves = [t.requires_grad_() for t in tensors()]
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t, change):
        out = vmap(attention("cpu"))(*(t[None] for t in leaves))
        with pytest.raises(RuntimeError, match="inhibitor attention saved"):
            torch.autograd.grad(out.sum(), leaves)


@has_cpu
def test_saved_tensors_of_a_second_derivative_that_come_back_as_others_are_refused() -> None:
    leaves = [t.requires_grad_() for t in tensors()]
    value = loss("cpu")(*leaves)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t, CHANGED["half"]):
        first = torch.autograd.grad(value, leaves[0], create_graph=True)[0]
        with pytest.raises(RuntimeError, match="inhibitor attention saved"):
            torch.autograd.grad(first.sum(), leaves[0])


@has_cpu
@pytest.mark.parametrize("change", [CHANGED["half"], CHANGED["fewer rows"]])
def test_saved_tensors_of_compiled_code_that_come_back_as_others_are_refused(
    change: Callable[[Tensor], Tensor],
) -> None:
    leaves = [t.requires_grad_() for t in tensors()]
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t, change):
        out = torch.compile(attention("cpu"), backend="aot_eager")(*leaves)
        with pytest.raises(RuntimeError, match=r"inhibitor attention needs .* for its backward pass, got"):
            torch.autograd.grad(out.sum(), leaves)


REARRANGED: dict[str, Callable[[Tensor], Tensor]] = {
    "strided": lambda t: t.mT.contiguous().mT if t.dim() > 1 else t.repeat_interleave(2)[::2],
    "lazily negated": lambda t: negated(-t) if t.is_floating_point() else t,
    "a subclass": lambda t: t.as_subclass(Subclass),
}


@engines
@pytest.mark.parametrize("change", REARRANGED.values(), ids=REARRANGED)
def test_saved_tensors_may_come_back_in_another_form(engine: str, change: Callable[[Tensor], Tensor]) -> None:
    leaves = [t.requires_grad_() for t in tensors()]
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t, change):
        assert_agrees(torch.autograd.grad(loss(engine)(*leaves), leaves), true_gradients())


@engines
@pytest.mark.parametrize("use_reentrant", [False, True], ids=["non-reentrant", "reentrant"])
def test_checkpoint_in_autocast(engine: str, use_reentrant: bool) -> None:
    leaves = [t.requires_grad_() for t in tensors()]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        checkpoint(loss(engine), *leaves, use_reentrant=use_reentrant).backward()
    assert_agrees([t.grad for t in leaves], true_gradients())


@contextmanager
def level_in_another_thread() -> Iterator[None]:
    """Torch has one level of forward mode for all threads."""
    opened, done = threading.Event(), threading.Event()

    def other() -> None:
        with forward_ad.dual_level():
            opened.set()
            done.wait()

    thread = threading.Thread(target=other)
    thread.start()
    opened.wait()
    try:
        yield
    finally:
        done.set()
        thread.join()


LEVELS = pytest.mark.parametrize("level", [forward_ad.dual_level, level_in_another_thread], ids=["own", "another's"])


@engines
@LEVELS
@pytest.mark.parametrize("chunk", [1, 1 << 20], ids=["row by row", "one chunk"])
def test_a_checkpoint_whose_backward_pass_runs_in_forward_mode(engine: str, level: Any, chunk: int) -> None:
    """Where no tensor has a tangent nothing is different, neither the engine nor what it saves."""
    leaves = [t.requires_grad_() for t in tensors()]
    with chunks_of(chunk):
        value = checkpoint(loss(engine), *leaves, use_reentrant=False)
        with level():
            assert_agrees(torch.autograd.grad(value, leaves), true_gradients())
            value = checkpoint(loss(engine), *leaves, use_reentrant=False)
        assert_agrees(torch.autograd.grad(value, leaves), true_gradients())


@engines
@LEVELS
def test_where_no_tensor_has_a_tangent_every_engine_serves(engine: str, level: Any) -> None:
    with level():
        leaves = [t.requires_grad_() for t in tensors()]
        assert_agrees(torch.autograd.grad(loss(engine)(*leaves), leaves), true_gradients())


@forward_engines
def test_tangents_inside_transforms_are_seen(engine: str) -> None:
    """Below the tensors of torch.func, or made there."""
    with forward_ad.dual_level():
        duals = [forward_ad.make_dual(t, d) for t, d in zip(tensors(), directions(), strict=True)]
        found = grad(lambda scale: attention(engine)(*duals).sum() * scale)(torch.ones(()))
        assert_agrees(forward_ad.unpack_dual(found).tangent, true_derivative().sum())
        found = vmap(lambda q: attention(engine)(q, *duals[1:]))(duals[0][None])[0]
        assert_agrees(forward_ad.unpack_dual(found).tangent, true_derivative())


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
