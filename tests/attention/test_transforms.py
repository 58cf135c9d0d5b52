"""The operation under everything in torch that records, transforms or differentiates it: right, or a clear error."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call, functionalize, grad, hessian, jacfwd, jacrev, jvp, linearize, vjp, vmap
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from inhibitor_transformers.attention import InhibitorScalars, inhibition_scores, inhibitor_attention, native
from tests.attention.cases import Shape, chunks_of, random_bools, random_inputs, weights_for
from tests.attention.engine_cases import error

TINY = Shape(batch=2, heads=2, kv_heads=1, queries=3, keys=4, features=2, value_features=3)
NAMES = ("query", "key", "value", "gamma", "eta", "delta", "length_exponent")
ALL = tuple(range(len(NAMES)))
PADDING = torch.tensor([[True, True, True, False], [True, True, True, True]])
PAIRS = random_bools(3, 2, 1, 3, 4)
MASKS: dict[str, Any] = {"key_padding_mask": PADDING, "attn_mask": PAIRS}

has_cpu = pytest.mark.skipif(native.unavailable() is not None, reason=f"engine cpu: {native.unavailable()}")
CPU = pytest.param("cpu", marks=has_cpu)
engines = pytest.mark.parametrize("engine", ["reference", "auto", CPU])
forward_engines = pytest.mark.parametrize("engine", ["reference", "auto"])

Function = Callable[..., Tensor]


def attention(engine: str, **options: Any) -> Function:
    """The operation as a function of its seven tensors, or of the first of them."""

    def of(*tensors: Tensor) -> Tensor:
        return inhibitor_attention(**dict(zip(NAMES, tensors, strict=False)), engine=engine, **(options or MASKS))

    return of


def loss(engine: str, **options: Any) -> Function:
    return lambda *tensors: (attention(engine, **options)(*tensors) * weights(tensors[0])).square().sum()


def weights(like: Tensor) -> Tensor:
    return torch.arange(1, 4, dtype=like.dtype).sin()


def tensors(dtype: torch.dtype = torch.float32, seed: int = 0, shape: Shape = TINY) -> tuple[Tensor, ...]:
    """The same numbers in every dtype."""
    return tuple(t.float().to(dtype) for t in random_inputs(shape, seed).values())


def exact() -> tuple[Tensor, ...]:
    return tensors(torch.float64)


def directions(dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
    return tensors(dtype, seed=1)


def true_gradients() -> tuple[Tensor, ...]:
    leaves = [t.requires_grad_() for t in exact()]
    return torch.autograd.grad(loss("reference")(*leaves), leaves)


def true_derivative() -> Tensor:
    """Of the output in the direction of `directions()`, by a central difference in float64."""
    step, f = 1e-6, attention("reference")
    ahead, behind = (
        [t + s * d for t, d in zip(exact(), directions(torch.float64), strict=True)] for s in (step, -step)
    )
    return (f(*ahead) - f(*behind)) / (2 * step)


def assert_agrees(actual: Any, expected: Any, tolerance: float = 1e-5) -> None:
    """Largest deviation against the largest number, of each tensor; float32 rounds to 6e-8 some dozen times."""
    if isinstance(actual, Tensor):
        assert actual.shape == expected.shape
        assert error(actual, expected) <= tolerance
        return
    assert len(actual) == len(expected)
    for a, e in zip(actual, expected, strict=True):
        assert_agrees(a, e, tolerance)


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
    with pytest.raises(ValueError, match="engine 'cpu' cannot serve this call: it has no forward-mode derivatives"):
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


def of_all(engine: str) -> Function:
    def called(*given: Tensor) -> Tensor:
        masks = {"key_padding_mask": given[7], "attn_mask": given[8]}
        return attention(engine, **masks)(*given[:7])

    return called


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


# Recording


@pytest.fixture
def _no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error", torch.jit.TracerWarning)
        yield


def resized(**changes: int) -> tuple[Tensor, ...]:
    return tensors(seed=5, shape=TINY._replace(**changes))


OPTIONS: dict[str, dict[str, Any]] = {
    "no mask": {"length_reference": 3},
    "causal": {"is_causal": True},
    "unsigned": {"signed": False, "center": "none"},
}


@forward_engines
@pytest.mark.usefixtures("_no_warnings")
@pytest.mark.filterwarnings("ignore:.torch.jit.trace:DeprecationWarning")
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_trace_serves_other_numbers_and_other_sizes(engine: str, options: dict[str, Any]) -> None:
    for chunk in (1, 1 << 20):
        with chunks_of(chunk):
            traced = torch.jit.trace(attention(engine, **options), tensors())
            for given in (tensors(), resized(), resized(batch=3, queries=6, keys=9), resized(features=3)):
                assert_agrees(traced(*given), attention("reference", **options)(*given))


@forward_engines
@pytest.mark.usefixtures("_no_warnings")
@pytest.mark.filterwarnings("ignore:.torch.jit.trace:DeprecationWarning")
def test_a_trace_serves_other_masks(engine: str) -> None:
    def of(*given: Tensor) -> Tensor:
        return of_all(engine)(*given)

    def masks(keys: int) -> tuple[Tensor, Tensor]:
        return random_bools(1, 2, keys), random_bools(2, 2, 1, 3, keys)

    traced = torch.jit.trace(of, (*tensors(), torch.ones_like(PADDING), torch.ones_like(PAIRS)))
    for given in ((*tensors(), *masks(4)), (*resized(keys=7), *masks(7))):
        assert_agrees(traced(*given), of_all("reference")(*given))


@pytest.mark.filterwarnings("ignore:.torch.jit.trace:DeprecationWarning")
def test_a_trace_of_scores_and_of_gradients() -> None:
    q, k, *_ = tensors()
    traced = torch.jit.trace(lambda q, k: inhibition_scores(q, k, is_causal=True), (q, k))
    q, k, *_ = resized(queries=6, keys=9)
    assert_agrees(traced(q, k).neg().exp(), inhibition_scores(q, k, is_causal=True).neg().exp())
    traced = torch.jit.trace(attention("auto"), tensors())
    leaves = [t.requires_grad_() for t in tensors()]
    assert_agrees(torch.autograd.grad((traced(*leaves) * weights(leaves[0])).square().sum(), leaves), true_gradients())


@has_cpu
@pytest.mark.filterwarnings("ignore:.torch.jit.:DeprecationWarning")
def test_the_compiled_engine_by_name_says_that_it_cannot_be_traced() -> None:
    with pytest.raises(ValueError, match=r"engine 'cpu' cannot serve this call: torch\.jit\.trace records"):
        torch.jit.trace(attention("cpu"), tensors())
    with pytest.raises(ValueError, match=r"engine 'cpu' cannot serve this call: torch\.func\.functionalize"):
        functionalize(attention("cpu"))(*tensors())


def test_functionalize() -> None:
    assert_agrees(functionalize(attention("auto"))(*tensors()), attention("reference")(*exact()))
    assert_agrees(functionalize(grad(loss("auto"), argnums=ALL))(*tensors()), true_gradients())


@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")
def test_scripting_is_an_error() -> None:
    with pytest.raises((RuntimeError, torch.jit.frontend.NotSupportedError)):
        torch.jit.script(inhibitor_attention)


@engines
@pytest.mark.parametrize("pre_dispatch", [False, True], ids=["", "pre-dispatch"])
@pytest.mark.parametrize("mode", ["real", "fake", "symbolic"])
def test_make_fx(engine: str, mode: str, pre_dispatch: bool) -> None:
    def of(*given: Tensor) -> Tensor:
        return of_all(engine)(*given)

    traced = make_fx(of, tracing_mode=mode, pre_dispatch=pre_dispatch)(*tensors(), PADDING, PAIRS)
    others = [(*tensors(seed=5), random_bools(1, 2, 4), random_bools(2, 2, 1, 3, 4))]
    if mode == "symbolic":
        others.append((*resized(batch=3, keys=9), random_bools(1, 3, 9), random_bools(2, 3, 1, 3, 9)))
    for given in others:
        assert_agrees(traced(*given), of_all("reference")(*given))


@engines
def test_make_fx_of_gradients(engine: str) -> None:
    traced = make_fx(grad(loss(engine), argnums=ALL))(*tensors())
    assert_agrees(traced(*tensors()), true_gradients())


def test_fx_records_a_call_as_a_whole() -> None:
    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scalars = InhibitorScalars(2, gamma=0.7)

        def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            arguments = self.scalars.as_arguments()
            return inhibitor_attention(q, k, value=v, **arguments) + inhibition_scores(query=q, key=k).sum()

    layer, (q, k, v, *_) = Layer(), tensors()
    traced = torch.fx.symbolic_trace(layer)
    targets = [node.target for node in traced.graph.nodes if node.op == "call_function"]
    assert inhibitor_attention in targets
    assert torch.equal(traced(q, k, v), layer(q, k, v))


@pytest.mark.parametrize("of", [grad, lambda f: vmap(grad(f)), lambda f: lambda x: jvp(f, (x,), (x,))[1]])
def test_compiled_under_torch_func(of: Any) -> None:
    torch.compiler.reset()
    q = tensors()[0].unsqueeze(0)

    def total(engine: str) -> Any:
        return lambda x: (
            inhibitor_attention(x.view(2, 2, 3, 2), *2 * [x.view(2, 2, 3, 2)], engine=engine).square().sum()
        )

    compiled = torch.compile(of(total("auto")), backend="eager", fullgraph=True)
    assert_agrees(compiled(q), of(total("reference"))(q))


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
@pytest.mark.parametrize("strategy", ["forward-mode", "reverse-mode"])
@pytest.mark.parametrize("vectorize", [False, True], ids=["", "vectorised"])
def test_autograd_functional(engine: str, strategy: str, vectorize: bool) -> None:
    if strategy == "forward-mode" and not vectorize:
        pytest.skip("torch has no such combination")
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
