"""An engine is added from outside the package, in one place: `dispatch.register_engine`."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import Tensor

from inhibitor_transformers.attention import available_engines, dispatch, engine_report, inhibitor_attention, reference
from inhibitor_transformers.attention.autograd import run_kernels
from inhibitor_transformers.attention.call import AttentionCall, Masks, Options, Tensors, spread
from inhibitor_transformers.attention.engine import KERNELS, Engine, Gradients, Kernels, heads_last
from tests.attention.engine_cases import Shape, inputs, outputs
from tests.conftest import REPOSITORY

SHAPE = Shape(batch=2, heads=4, kv_heads=2, queries=3, keys=5, dim=4, value_dim=6)


@pytest.fixture(autouse=True)
def _registered_for_one_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "ENGINES", dispatch.ENGINES)
    for name in ("doubling", "outside"):
        monkeypatch.setitem(KERNELS, name, None)


def doubling(call: AttentionCall) -> Tensor:
    return 2 * reference.run(call)


DOUBLING = Engine(
    name="doubling",
    describe=lambda: "twice the reference",
    run=doubling,
    unavailable=lambda: None,
    refuses=lambda call: "causal calls are not supported" if call.is_causal else None,
)


def test_it_serves_by_name_and_by_itself() -> None:
    dispatch.register_engine(DOUBLING)
    tensors = inputs(SHAPE)
    expected = 2 * inhibitor_attention(**tensors, engine="reference")
    assert torch.equal(inhibitor_attention(**tensors, engine="doubling"), expected)
    assert torch.equal(inhibitor_attention(**tensors), expected)
    causal = {"is_causal": True, "engine": "reference"}
    torch.testing.assert_close(inhibitor_attention(**tensors, is_causal=True), inhibitor_attention(**tensors, **causal))
    with pytest.raises(ValueError, match="engine 'doubling' cannot serve this call: causal calls"):
        inhibitor_attention(**tensors, is_causal=True, engine="doubling")
    assert available_engines()[0] == "doubling"
    assert engine_report()[0] == ("doubling", "twice the reference", "available")


@pytest.mark.parametrize("name", ["doubling", "reference", "auto"])
def test_names_are_unique(name: str) -> None:
    dispatch.register_engine(DOUBLING)
    with pytest.raises(ValueError, match=f"there is an engine '{name}' already"):
        dispatch.register_engine(Engine(name, DOUBLING.describe, doubling, lambda: None, lambda call: None))


def _call(tensors: Tensors, masks: Masks, options: Options) -> AttentionCall:
    return AttentionCall(
        **tensors._asdict(),
        **masks._asdict(),
        length_reference=options.length_reference,
        is_causal=options.is_causal,
        signed=options.is_signed,
        center=options.center,
    )


def _forward(tensors: Tensors, masks: Masks, options: Options, saving: bool) -> tuple[Tensor, Tensor | None]:
    out = reference.run(_call(tensors, masks, options))
    return heads_last(out, out.shape[-1]).copy_(out), out.new_empty((0, *out.shape[:3])) if saving else None


def _backward(
    grad: Tensor, out: Tensor, saved: Tensor, tensors: Tensors, masks: Masks, options: Options, with_bias: bool
) -> Gradients:
    rows = [*tensors.qkv, *(s.expand(grad.shape[0], -1) for s in tensors.scalars if s is not None)]
    leaves = [t.detach().requires_grad_() for t in rows]
    with torch.enable_grad():
        recomputed = reference.run(_call(Tensors(*spread(leaves, tensors)), masks, options))
    gq, gk, gv, *of_scalars = torch.autograd.grad(recomputed, leaves, grad)
    gq, gk, gv = (heads_last(g, g.shape[-1]).copy_(g) for g in (gq, gk, gv))
    return gq, gk, gv, torch.stack(of_scalars), None


OUTSIDE = Engine(
    name="outside",
    describe=lambda: "kernels from outside the package",
    run=lambda call: run_kernels("outside", call.tensors(), call.masks(), call.options()),
    unavailable=lambda: None,
    refuses=lambda call: None,
    kernels=Kernels(_forward, _backward, saved=0),
)


def test_kernels_get_gradients_and_compilation_from_the_operator() -> None:
    dispatch.register_engine(OUTSIDE)
    tensors = inputs(SHAPE)
    grad = torch.randn(2, 4, 3, 6)
    mask = torch.tensor([[True] * 5, [True, False, True, True, False]])
    found = outputs(tensors, grad, "outside", torch.float32, key_padding_mask=mask)
    expected = outputs(tensors, grad, "reference", torch.float32, key_padding_mask=mask)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], msg=name)
    compiled = torch.compile(lambda: inhibitor_attention(**tensors, engine="outside"), backend="aot_eager")
    torch.testing.assert_close(compiled(), inhibitor_attention(**tensors, engine="reference"))


def test_the_preferred_engine_stays_first() -> None:
    code = (
        "from inhibitor_transformers.attention import available_engines, dispatch\n"
        "from tests.attention.test_register_engine import DOUBLING\n"
        "dispatch.register_engine(DOUBLING)\n"
        "print(available_engines()[:2])"
    )
    environment = {"INHIBITOR_ENGINE": "reference", "PATH": "", "OMP_NUM_THREADS": "1"}
    run = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert run.stdout.strip() == "['reference', 'doubling']", run.stderr
