"""ONNX Runtime's operator is the engine, on the threads of its session, and says what is wrong with its inputs."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from inhibitor_transformers.attention.cpu import library
from inhibitor_transformers.deploy.runtimes import onnxruntime_operator
from tests.attention.cases import Shape
from tests.attention.engine_cases import error
from tests.deploy.export.cases import NO_ONNX
from tests.deploy.runtimes.cases import (
    OPTIONS,
    SCALARS,
    SHAPES,
    SMALL,
    Case,
    expected,
    make_case,
    require_masked_keys_unread,
    require_one_number_for_all_heads,
)

onnx = pytest.importorskip("onnx", reason=NO_ONNX)
onnxruntime = pytest.importorskip("onnxruntime", reason=NO_ONNX)
onnxruntime_pybind11_state = onnxruntime.capi.onnxruntime_pybind11_state
if (reason := library.unavailable()) is not None:
    pytest.skip(f"ONNX Runtime's operator: {reason}", allow_module_level=True)

NAMES = ("query", "key", "value", "key_padding_mask", *SCALARS, "score_bias")
RAISED = (onnxruntime_pybind11_state.InvalidArgument, onnxruntime_pybind11_state.RuntimeException)


def session(given: dict[str, Tensor | None], attributes: dict[str, Any], *, threads: int = 1, **options: Any) -> Any:
    """A session of one node with those inputs that are not None, whose shapes are not known beforehand."""
    names = [name if given[name] is not None else "" for name in NAMES]
    types = {name: onnx.TensorProto.BOOL if given[name].dtype == torch.bool else onnx.TensorProto.FLOAT
             for name in names if name}  # fmt: skip
    info = onnx.helper.make_tensor_value_info
    values = {name: int(value) if isinstance(value, bool) else value for name, value in attributes.items()}
    node = onnx.helper.make_node("InhibitorAttention", names, ["output"], domain="inhibitor", **values)
    inputs = [info(name, kind, None) for name, kind in types.items()]
    graph = onnx.helper.make_graph([node], "attention", inputs, [info("output", onnx.TensorProto.FLOAT, None)])
    opsets = [onnx.helper.make_opsetid("", 20), onnx.helper.make_opsetid("inhibitor", 1)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9)
    of_session = onnxruntime.SessionOptions()
    of_session.intra_op_num_threads, of_session.log_severity_level = threads, 4  # what it logs, it raises as well
    for name, value in options.items():
        setattr(of_session, name, value)
    onnxruntime_operator.register(of_session)
    return onnxruntime.InferenceSession(model.SerializeToString(), of_session, providers=["CPUExecutionProvider"])


def output(of: Any, given: dict[str, Tensor | None]) -> Tensor:
    return torch.from_numpy(of.run(None, {name: t.numpy() for name, t in given.items() if t is not None})[0])


def run(case: Case, **options: Any) -> Tensor:
    return output(session(case.tensors, case.attributes, **options), case.tensors)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: "-".join(map(str, s)))
def test_it_is_the_engine(shape: Shape, options: dict[str, Any]) -> None:
    case = make_case(shape, **options)
    found = run(case)
    assert torch.equal(found, expected(case, dtype=torch.float32, engine="cpu"))
    assert error(found, expected(case)) < 1e-5


def test_one_number_serves_all_heads() -> None:
    require_one_number_for_all_heads(run)


def test_attributes_that_are_left_out() -> None:
    case = make_case(SMALL._replace(kv_heads=4), masked=True)
    explicit = {"num_heads": 4, "length_reference": 64.0, "center": "mean", "is_signed": 1, "is_causal": 0}
    assert torch.equal(run(case._replace(attributes={"num_heads": 4})), run(case._replace(attributes=explicit)))


def test_nan_in_masked_keys_is_not_read() -> None:
    require_masked_keys_unread(run)


@pytest.mark.parametrize("arena", [True, False])
def test_the_number_of_threads_and_the_arena_change_no_bit(arena: bool) -> None:
    case = make_case(Shape(4, 4, 4, 90, 90, 16, 16), masked=True)
    found = [run(case, threads=threads, enable_cpu_mem_arena=arena) for threads in (1, 2, 3)]
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_threads_are_those_of_the_session(tmp_path: Path) -> None:
    """In a process of its own: torch has threads as well, and so have sessions that ended."""
    if sys.platform != "linux":
        pytest.skip("threads are counted in /proc")
    code = """
import os, pickle, sys
from tests.deploy.runtimes.cases import make_case
from tests.deploy.runtimes.test_onnxruntime_operator import Shape, output, session
def threads(): return len(os.listdir("/proc/self/task"))
case = make_case(Shape(8, 4, 4, 200, 200, 16, 16))
before = threads()
alone = session(case.tensors, case.attributes)
output(alone, case.tensors)
assert threads() == before
shared = session(case.tensors, case.attributes, threads=3)
assert threads() == before + 2
output(shared, case.tensors)
assert threads() == before + 2
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_sessions_that_run_at_the_same_time() -> None:
    cases = [
        make_case(Shape(2, 4, 4, 60 + i, 60, 16, 16), masked=True, center=("mean", "none")[i % 2]) for i in range(4)
    ]
    sessions = [session(case.tensors, case.attributes, threads=2) for case in cases]
    there = [output(*pair) for pair in zip(sessions, (case.tensors for case in cases), strict=True)]
    with ThreadPoolExecutor(8) as pool:  # two threads call each session
        calls = [(i % 4, pool.submit(output, sessions[i % 4], cases[i % 4].tensors)) for i in range(80)]
        assert all(torch.equal(call.result(), there[i]) for i, call in calls)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"num_heads": None}, "num_heads must be at least 1, got 0"),
        ({"num_heads": 4.0}, "num_heads must be an integer"),
        ({"kv_num_heads": 3}, r"num_heads \(4\) must be a multiple of kv_num_heads \(3\)"),
        ({"length_reference": 0.0}, "length_reference must be positive and finite, got 0.0"),
        ({"length_reference": 64}, "length_reference must be a float"),
        ({"center": "median"}, "center must be mean or none, got median"),
        ({"center": 1}, "center must be a string"),
        ({"is_signed": 1.0}, "is_signed must be an integer"),
        ({"is_causal": "yes"}, "is_causal must be an integer"),
    ],
)
def test_wrong_attributes_are_refused_when_the_session_is_made(changed: dict[str, Any], message: str) -> None:
    case = make_case(SMALL)
    attributes = {name: value for name, value in (case.attributes | changed).items() if value is not None}
    with pytest.raises(RAISED, match=f"InhibitorAttention: {message}"):
        session(case.tensors, attributes)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"query": torch.ones(2, 5)}, "query, key and value must have 3 dimensions"),
        ({"key": torch.ones(1, 6, 6)}, "must have one batch size"),
        ({"value": torch.ones(2, 7, 8)}, "key and value one length"),
        ({"query": torch.ones(2, 5, 13)}, "query must have 4 heads"),
        ({"gamma": torch.ones(3)}, r"gamma must hold 1 or 4 numbers, got shape \(3\)"),
        ({"length_exponent": torch.ones(4, 1)}, r"length_exponent must hold 1 or 4 numbers, got shape \(4, 1\)"),
        ({"key_padding_mask": torch.ones(2, 5) > 0}, r"key_padding_mask must be \(2, 6\), got \(2, 5\)"),
        ({"score_bias": torch.ones(2, 5, 6)}, r"score_bias must be \(4, 5, 6\) or \(1, 5, 6\), got \(2, 5, 6\)"),
    ],
)
def test_wrong_inputs_are_refused(changed: dict[str, Tensor], message: str) -> None:
    case = make_case(SMALL)
    with pytest.raises(RAISED, match=f"InhibitorAttention: .*{message}"):
        run(case._replace(tensors=case.tensors | changed))


def test_no_input_but_mask_and_bias_may_be_left_out() -> None:
    case = make_case(SMALL)
    with pytest.raises(Exception, match=r"eta|Node|input"):
        session(case.tensors | {"eta": None}, case.attributes)


def test_neither_the_module_nor_the_operator_needs_torch() -> None:
    """The library of this module is the one that the engine uses, and it is found without the engine."""
    code = """
import sys
for name in ("torch", "transformers"):
    sys.modules[name] = None  # importing it raises ImportError
import onnxruntime
from inhibitor_transformers.deploy.runtimes.onnxruntime_operator import shared_library, register
register(onnxruntime.SessionOptions())
print(shared_library())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()) == library.find()


def test_an_installation_without_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime_operator, "_MODULE", "inhibitor_transformers.attention._absent")
    with pytest.raises(RuntimeError, match="installed without compiled kernels"):
        onnxruntime_operator.register(onnxruntime.SessionOptions())
