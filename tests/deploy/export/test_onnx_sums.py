"""The graph of plain attention is the reference, in ONNX Runtime and in ONNX's own evaluator, and it is small."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from inhibitor_transformers.attention import InhibitorScalars, inhibitor_attention, reference
from inhibitor_transformers.attention.call import CENTERS
from inhibitor_transformers.deploy.export.plain import plain_attention
from tests.deploy.export.cases import NO_ONNX, attention_inputs, expected, padding

onnx = pytest.importorskip("onnx", reason=NO_ONNX)
onnxruntime = pytest.importorskip("onnxruntime", reason=NO_ONNX)
pytest.importorskip("onnxscript", reason=NO_ONNX)

from inhibitor_transformers.deploy.export.onnx_file import write_onnx  # noqa: E402
from inhibitor_transformers.deploy.export.onnx_sums import onnx_sums  # noqa: E402

HEADS, DIM = 2, 4


class Plain(nn.Module):
    def __init__(self, scalars: InhibitorScalars, **options: Any) -> None:
        super().__init__()
        self.scalars, self.options = scalars, options

    def forward(self, q: Tensor, k: Tensor, v: Tensor, valid: Tensor) -> Tensor:
        return plain_attention(onnx_sums, q, k, v, valid, self.scalars, **self.options)


class Broadcast(Plain):
    """The reference, unchunked."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, valid: Tensor) -> Tensor:
        scalars = {name: getattr(self.scalars, name)[:, None, None] for name in self.scalars.initial}
        mask, options = valid[:, None, None], {"length_reference": 10.0} | self.options
        return reference.attend(q, k, v, mask, None, **scalars, **options)


def written(folder: Path, module: nn.Module) -> Path:
    qkv, _ = attention_inputs(2, HEADS, 5, DIM)
    axes = {name: {0: "batch", 2: "length"} for name in "qkv"} | {"valid": {0: "batch", 1: "length"}}
    inputs = dict(zip(axes, [*qkv, padding(2, 5)], strict=True))
    write_onnx(module.eval(), inputs, axes, ["output"], folder / "attention.onnx")
    return folder / "attention.onnx"


def feed(qkv: list[Tensor], valid: Tensor) -> dict[str, Any]:
    return dict(zip([*"qkv", "valid"], [t.numpy() for t in (*qkv, valid)], strict=True))


def run(file: Path, qkv: list[Tensor], valid: Tensor) -> Tensor:
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, feed(qkv, valid))[0])


def assert_is_reference(found: Tensor, qkv: list[Tensor], valid: Tensor, scalars: Any, **options: Any) -> None:
    there = expected(qkv, valid, scalars, **options)
    torch.testing.assert_close(found.double(), there, atol=1e-6 * there.abs().max().item(), rtol=1e-5)


@pytest.mark.parametrize(("signed", "center"), [(True, "mean"), (False, "none")])
def test_it_is_the_reference_at_any_length(signed: bool, center: str, tmp_path: Path) -> None:
    """Lengths around the 16 rows of a block; a row without keys gives zero."""
    assert center in CENTERS
    options = {"signed": signed, "center": center}
    _, scalars = attention_inputs(1, HEADS, 1, DIM)
    file = written(tmp_path, Plain(scalars, **options))
    for batch, length in ((1, 1), (5, 15), (5, 16), (5, 17), (3, 50)):
        qkv, scalars_too = attention_inputs(batch, HEADS, length, DIM)
        for name in scalars.initial:  # those in the file
            getattr(scalars_too, name).copy_(getattr(scalars, name))
        valid = padding(batch, length)
        assert_is_reference(run(file, qkv, valid), qkv, valid, scalars, **options)
        if batch == 5:
            assert not run(file, qkv, valid)[4].any()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, InhibitorScalars]:
    _, scalars = attention_inputs(1, HEADS, 1, DIM)
    return written(tmp_path_factory.mktemp("plain"), Plain(scalars, signed=True, center="mean")), scalars


def test_what_a_masked_key_holds_is_never_read(plain: tuple[Path, InhibitorScalars]) -> None:
    file, _ = plain
    qkv, _ = attention_inputs(3, HEADS, 20, DIM)
    valid = padding(3, 20)
    poisoned = [qkv[0], *(t.masked_fill(~valid[:, None, :, None], float("nan")) for t in qkv[1:])]
    assert torch.equal(run(file, poisoned, valid), run(file, qkv, valid))


def test_many_keys_cost_no_digits(tmp_path: Path) -> None:
    """The error is at most twice that of the reference in float32."""
    qkv, scalars = attention_inputs(1, HEADS, 500, DIM)
    scalars.gamma.fill_(2.0)
    valid = padding(1, 500)
    found = run(written(tmp_path, Plain(scalars, signed=True, center="mean")), qkv, valid)
    in_torch = inhibitor_attention(*qkv, **scalars.as_arguments(), key_padding_mask=valid, engine="reference")
    there = expected(qkv, valid, scalars)
    error, allowed = ((output.double() - there).abs().max() for output in (found, in_torch))
    assert error <= 2 * allowed


def test_only_standard_operators_are_left(plain: tuple[Path, InhibitorScalars]) -> None:
    model = onnx.load(plain[0])
    onnx.checker.check_model(model, full_check=True)
    assert [imported.domain for imported in model.opset_import] == [""]
    assert not model.functions
    assert {"Scan"} == {node.op_type for node in model.graph.node if any(a.HasField("g") for a in node.attribute)}


def test_nothing_of_queries_times_keys_times_features_is_held(
    plain: tuple[Path, InhibitorScalars], tmp_path: Path
) -> None:
    """ONNX's own evaluator holds each result as a numpy array, which can be counted: not even all scores are there."""
    file, scalars = plain
    qkv, _ = attention_inputs(1, HEADS, 512, DIM)
    given = feed(qkv, padding(1, 512))

    def peak(of: Path) -> int:
        evaluator = onnx.reference.ReferenceEvaluator(onnx.load(of))
        tracemalloc.start()
        try:
            output = evaluator.run(None, given)[0]
            found = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert_is_reference(torch.from_numpy(output), qkv, padding(1, 512), scalars)
        return found

    scores = HEADS * 512 * 512 * 4
    assert peak(file) < scores
    assert peak(written(tmp_path, Broadcast(scalars, signed=True, center="mean"))) > DIM * scores
