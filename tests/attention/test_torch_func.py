"""torch.func and forward-mode differentiation, in every engine: right, or a clear error."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, linearize, vjp, vmap

from inhibitor_transformers.attention import InhibitorScalars, inhibitor_attention
from tests.attention.cases import chunks_of, random_bools, weights_for
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
    of_all,
    tensors,
    true_derivative,
    true_gradients,
    weights,
)

# Reverse mode


@engines
def test_grad(engine: str) -> None:
    assert_agrees(grad(loss(engine), argnums=ALL)(*tensors()), true_gradients())


@engines
def test_grad_in_chunks(engine: str) -> None:
    """The reference cuts long inputs into chunks, which torch.func must not notice."""
    with chunks_of(1):
        assert_agrees(grad(loss(engine), argnums=ALL)(*tensors()), true_gradients())


@engines
@pytest.mark.parametrize("of", [jacrev, lambda f, argnums: jacrev(f, argnums, chunk_size=1)], ids=["whole", "chunked"])
def test_jacrev(engine: str, of: Any) -> None:
    expected = torch.autograd.functional.jacobian(attention("reference"), exact())
    assert_agrees(of(attention(engine), argnums=ALL)(*tensors()), expected)


@engines
def test_reverse_over_reverse(engine: str) -> None:
    expected = torch.autograd.functional.hessian(loss("reference"), exact())
    assert_agrees(jacrev(jacrev(loss(engine), argnums=ALL), argnums=ALL)(*tensors()), expected)


@engines
def test_vjp(engine: str) -> None:
    out, pull = vjp(attention(engine), *tensors())
    leaves = [t.requires_grad_() for t in exact()]
    expected = attention("reference")(*leaves)
    assert_agrees(out, expected)
    assert_agrees(pull(torch.ones_like(out)), torch.autograd.grad(expected.sum(), leaves))


@engines
def test_functional_call(engine: str) -> None:
    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scalars = InhibitorScalars(2)

        def forward(self, *qkv: Tensor) -> Tensor:
            return inhibitor_attention(*qkv, **self.scalars.as_arguments(), **MASKS, engine=engine)

    layer, (q, k, v, *scalars) = Layer(), tensors()
    parameters = {f"scalars.{name}": s for name, s in zip(NAMES[3:], scalars, strict=True)}
    found = grad(lambda p: (functional_call(layer, p, (q, k, v)) * weights(q)).square().sum())(parameters)
    assert_agrees([found[f"scalars.{name}"] for name in NAMES[3:]], true_gradients()[3:])


# Forward mode


@forward_engines
@pytest.mark.parametrize("chunk", [1, 1 << 20], ids=["row by row", "one chunk"])
def test_jvp(engine: str, chunk: int) -> None:
    with chunks_of(chunk):
        out, derivative = jvp(attention(engine), tensors(), directions())
    assert_agrees(out, attention("reference")(*exact()))
    assert_agrees(derivative, true_derivative())


@forward_engines
def test_forward_ad(engine: str) -> None:
    with forward_ad.dual_level():
        duals = [forward_ad.make_dual(t, d) for t, d in zip(tensors(), directions(), strict=True)]
        assert_agrees(forward_ad.unpack_dual(attention(engine)(*duals)).tangent, true_derivative())


@forward_engines
def test_forward_mode_of_what_also_has_a_gradient(engine: str) -> None:
    """Hessian-vector products of either order, with and without torch.func."""
    leaves = [t.requires_grad_() for t in exact()]
    first = torch.autograd.grad(loss("reference")(*leaves), leaves, create_graph=True)
    of_direction = sum((g * d).sum() for g, d in zip(first, directions(torch.float64), strict=True))
    expected = torch.autograd.grad(of_direction, leaves)
    assert_agrees(jvp(grad(loss(engine), argnums=ALL), tensors(), directions())[1], expected)
    with forward_ad.dual_level(), chunks_of(1):
        leaves = [t.requires_grad_() for t in tensors()]
        duals = [forward_ad.make_dual(t, d) for t, d in zip(leaves, directions(), strict=True)]
        tangent = forward_ad.unpack_dual(loss(engine)(*duals)).tangent
        assert_agrees(torch.autograd.grad(tangent, leaves), expected)


@forward_engines
@pytest.mark.parametrize("of", [hessian, lambda f, argnums: jacfwd(jacfwd(f, argnums), argnums)], ids=["mixed", "jvp"])
def test_hessian(engine: str, of: Any) -> None:
    expected = torch.autograd.functional.hessian(loss("reference"), exact())
    assert_agrees(of(loss(engine), argnums=ALL)(*tensors()), expected)


@forward_engines
@pytest.mark.filterwarnings("ignore::UserWarning:torch.fx")
def test_linearize(engine: str) -> None:
    out, derivative = linearize(attention(engine), *tensors())
    assert_agrees(out, attention("reference")(*exact()))
    assert_agrees(derivative(*directions()), true_derivative())


@has_cpu
@pytest.mark.parametrize("of", [lambda f: jvp(f, tensors(), directions()), lambda f: hessian(f)(*tensors())])
def test_the_compiled_engine_by_name_says_that_it_has_no_forward_mode(of: Any) -> None:
    with pytest.raises(ValueError, match=r"engine 'cpu' .* no forward-mode derivatives; leave it to engine='auto'"):
        of(loss("cpu"))


@engines
def test_tangents_that_come_after_the_forward_pass_are_not_dropped(engine: str) -> None:
    """What is known only in the backward pass: the compiled engine has run by then."""
    out, pull = vjp(attention(engine), *tensors())
    one, direction = torch.ones_like(out), weights_for(out)
    if engine == "reference":  # the pullback is linear
        assert_agrees(jvp(pull, (one,), (direction,))[1], pull(direction))
        return
    with pytest.raises(NotImplementedError, match="no forward-mode derivatives of their gradients"):
        jvp(pull, (one,), (direction,))
    leaf, *rest = tensors()
    out = attention(engine)(leaf.requires_grad_(), *rest)
    with forward_ad.dual_level(), pytest.raises(NotImplementedError, match="no forward-mode derivatives"):
        torch.autograd.grad(out, leaf, forward_ad.make_dual(torch.ones_like(out), torch.ones_like(out)))


# Batches of calls


def stacked(in_dims: tuple[int | None, ...]) -> list[Tensor]:
    """All arguments, masks too; those that are mapped over with 3 different ones along the dimension given."""
    given = []
    for i, dim in enumerate(in_dims):
        each = [(*tensors(seed=s), random_bools(10 + s, 2, 4), random_bools(20 + s, 2, 1, 3, 4))[i] for s in range(3)]
        given.append(each[0] if dim is None else torch.stack(each, dim))
    return given


MAPPED = {
    "all": (0,) * 9,
    "all but the scalars": (0, 0, 0, None, None, None, None, 0, 0),
    "query": (0, *(None,) * 8),
    "key and value, inside": (None, 2, 4, *(None,) * 6),
    "a scalar": (*(None,) * 4, 0, *(None,) * 4),
    "scalars, last": (None, None, None, 1, 1, 1, 1, None, None),
    "padding": (*(None,) * 7, 1, None),
    "pairs": (*(None,) * 8, 3),
}


def one_by_one(function: Any, given: list[Tensor], in_dims: tuple[int | None, ...]) -> list[Any]:
    return [
        function(*(g if d is None else g.select(d, i) for g, d in zip(given, in_dims, strict=True))) for i in range(3)
    ]


@engines
@pytest.mark.parametrize("in_dims", MAPPED.values(), ids=MAPPED)
def test_vmap(engine: str, in_dims: tuple[int | None, ...]) -> None:
    given = stacked(in_dims)
    expected = torch.stack(one_by_one(of_all("reference"), given, in_dims))
    assert_agrees(vmap(of_all(engine), in_dims)(*given), expected)
    assert_agrees(vmap(of_all(engine), in_dims, out_dims=2, chunk_size=2)(*given), expected.movedim(0, 2))


@engines
@pytest.mark.parametrize("in_dims", MAPPED.values(), ids=MAPPED)
def test_gradients_of_every_sample(engine: str, in_dims: tuple[int | None, ...]) -> None:
    """Of the scalars too, which samples have in common."""

    def of(engine: str) -> Any:
        return grad(lambda *given: (of_all(engine)(*given) * weights(given[0])).square().sum(), argnums=ALL)

    given = stacked(in_dims)
    expected = [torch.stack(g) for g in zip(*one_by_one(of("reference"), given, in_dims), strict=True)]
    assert_agrees(vmap(of(engine), in_dims)(*given), expected)


@engines
def test_vmap_in_vmap_and_under_grad(engine: str) -> None:
    q, k, v = (torch.stack([torch.stack([t, 2 * t]), torch.stack([3 * t, -t])]) for t in tensors()[:3])

    def total(engine: str) -> Any:
        return lambda *qkv: vmap(vmap(attention(engine), (0, None, 0)), (0, 0, 1))(*qkv).square().sum()

    assert_agrees(
        grad(total(engine), argnums=(0, 1, 2))(q, k[:, 0], v),
        grad(total("reference"), argnums=(0, 1, 2))(q, k[:, 0], v),
    )


@engines
def test_gradients_of_many_outputs_at_once(engine: str) -> None:
    """torch's older way of batching a backward pass, that of autograd.functional's vectorize=True."""
    leaves = [t.requires_grad_() for t in tensors()]
    out = attention(engine)(*leaves)
    found = torch.autograd.grad(out, leaves, torch.eye(out.numel()).view(-1, *out.shape), is_grads_batched=True)
    expected = torch.autograd.functional.jacobian(attention("reference"), exact())
    assert_agrees([f.view(e.shape) for f, e in zip(found, expected, strict=True)], expected)
