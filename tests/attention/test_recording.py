"""What records the operation, to run again: right for other numbers, sizes and masks, or a clear error."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functionalize, grad, jvp, vmap
from torch.fx.experimental.proxy_tensor import make_fx

from inhibitor_transformers.attention import InhibitorScalars, inhibition_scores, inhibitor_attention
from tests.attention.cases import chunks_of, random_bools
from tests.attention.transform_cases import (
    ALL,
    PADDING,
    PAIRS,
    TINY,
    assert_agrees,
    attention,
    engines,
    exact,
    forward_engines,
    has_cpu,
    loss,
    of_all,
    tensors,
    true_gradients,
    weights,
)


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
            for sizes in ({}, {"batch": 3, "queries": 6, "keys": 9}, {"features": 3}, {"keys": 1}, {"keys": 0}):
                given = resized(**sizes)
                assert_agrees(traced(*given), attention("reference", **options)(*given))
            assert_agrees(traced(*tensors()), attention("reference", **options)(*tensors()))


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


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_torch_onnx_export_writes_the_formula(tmp_path: Path) -> None:
    """ONNX has no operator of ours. `inhibit export` writes a faster form."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="needs onnx, onnxscript and onnxruntime")
    import onnxruntime

    class Layer(nn.Module):
        def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
            return inhibitor_attention(q, k, v, gamma=0.7, delta=0.2, length_exponent=0.5, key_padding_mask=mask)

    def given(batch: int, length: int) -> tuple[Tensor, ...]:
        return (*(torch.randn(batch, 2, length, 4) for _ in range(3)), random_bools(1, batch, length))

    dims = {0: torch.export.Dim("batch"), 2: torch.export.Dim("length")}
    shapes = (dims, dims, dims, {0: dims[0], 1: dims[2]})
    file = tmp_path / "attention.onnx"
    torch.onnx.export(Layer(), given(2, 5), file, dynamo=True, dynamic_shapes=shapes, verbose=False)
    session = onnxruntime.InferenceSession(file)
    for size in ((2, 5), (3, 9)):
        args = given(*size)
        found = session.run(None, {i.name: t.numpy() for i, t in zip(session.get_inputs(), args, strict=True)})
        assert_agrees(torch.from_numpy(found[0]), Layer()(*args))
