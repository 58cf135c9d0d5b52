"""OpenVINO's operator is the engine; it is compiled once for a release, and what is wrong with a graph is said."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

openvino = pytest.importorskip("openvino", reason="needs pip install 'inhibitor-transformers[openvino]'")
onnx = pytest.importorskip("onnx", reason="needs pip install 'inhibitor-transformers[openvino]'")
from onnx import TensorProto, helper  # noqa: E402

from inhibitor_transformers.deploy.runtimes import openvino_operator  # noqa: E402
from tests.attention.cases import Shape  # noqa: E402
from tests.attention.engine_cases import error  # noqa: E402
from tests.deploy.runtimes.cases import (  # noqa: E402
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

try:
    EXTENSION = openvino_operator.extension_path()
except RuntimeError as reason:
    pytest.skip(f"OpenVINO's operator: {reason}", allow_module_level=True)

NAMES = ("query", "key", "value", "key_padding_mask", *SCALARS, "score_bias")
TYPES = {torch.float32: TensorProto.FLOAT, torch.bool: TensorProto.BOOL}


@pytest.fixture(scope="module")
def core() -> Any:
    made = openvino_operator.new_core()
    openvino_operator.register(made)
    return made


def graph(case: Case, *, dtype: int = TensorProto.FLOAT, static: bool = False) -> bytes:
    """ONNX of one node. Query, key and value are cast to `dtype`, the output to float32; the scalars are constants."""
    given = {name: t for name, t in zip(NAMES, case.arguments, strict=True) if t is not None}
    names = [name if name in given else "" for name in NAMES]
    inputs = [
        helper.make_tensor_value_info(name, TYPES[t.dtype], list(t.shape) if static else [None] * t.dim())
        for name, t in given.items()
        if name not in SCALARS
    ]
    casts = [helper.make_node("Cast", [name], [f"{name}_cast"], to=dtype) for name in NAMES[:3]]
    attention = helper.make_node(
        "InhibitorAttention",
        [f"{name}_cast" if name in NAMES[:3] else name for name in names],
        ["found"],
        domain="inhibitor",
        **case.attributes,
    )
    back = helper.make_node("Cast", ["found"], ["output"], to=TensorProto.FLOAT)
    output = helper.make_tensor_value_info("output", TensorProto.FLOAT, [None] * 3)
    constants = [onnx.numpy_helper.from_array(given[name].numpy(), name) for name in SCALARS]
    made = helper.make_graph([*casts, attention, back], "attention", inputs, [output], constants)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("inhibitor", 1)]
    return helper.make_model(made, opset_imports=opsets, ir_version=10).SerializeToString()


def run(core: Any, model: Any, case: Case, threads: int = 1, precision: str = "f32") -> Tensor:
    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": precision}
    compiled = core.compile_model(model, "CPU", settings)
    given = zip(NAMES, case.arguments, strict=True)
    (found,) = compiled({n: t.numpy() for n, t in given if t is not None and n not in SCALARS}).values()
    return torch.from_numpy(found.copy())


def on_cpu(case: Case) -> Tensor:
    return expected(case, dtype=torch.float32, engine="cpu")


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: "-".join(map(str, s)))
def test_it_is_the_engine(core: Any, shape: Shape, options: dict[str, Any]) -> None:
    case = make_case(shape, **options)
    found = run(core, core.read_model(graph(case)), case)
    assert torch.equal(found, on_cpu(case))
    assert error(found, expected(case)) < 1e-5


@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_bfloat16_is_float32_rounded(core: Any, precision: str) -> None:
    case = make_case(Shape(2, 4, 2, 33, 40, 16, 16), masked=True)
    halves = {name: case.tensors[name].bfloat16().float() for name in NAMES[:3]}  # OpenVINO's Convert rounds otherwise
    case = case._replace(tensors=case.tensors | halves)
    found = run(core, core.read_model(graph(case, dtype=TensorProto.BFLOAT16)), case, precision=precision)
    assert torch.equal(found, on_cpu(case).bfloat16().float())


def layer_type(node: Any) -> str:
    """What the plugin made of a node."""
    kind: str = node.get_rt_info()["layerType"].astype(str)
    return kind


def test_bfloat16_of_projections_is_not_converted(core: Any) -> None:
    """Between a product that computes in bfloat16 and the operator the plugin puts nothing."""
    if "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this processor has no bfloat16")
    model = onnx.load_from_string(graph(make_case(Shape(2, 2, 2, 5, 5, 32, 32)), dtype=TensorProto.BFLOAT16))
    one = np.eye(64, dtype=np.float32)
    weights = [f"{name}_weight" for name in (*NAMES[:3], "out")]
    model.graph.initializer.extend(onnx.numpy_helper.from_array(one, name) for name in weights)
    for name in NAMES[:3]:
        (cast,) = (node for node in model.graph.node if node.input[0] == name)
        cast.input[0] = f"{name}_product"
        model.graph.node.insert(0, helper.make_node("MatMul", [name, f"{name}_weight"], cast.input))
    model.graph.node[-1].output[0] = "attended"
    model.graph.node.append(helper.make_node("MatMul", ["attended", "out_weight"], ["output"]))
    read = core.read_model(model.SerializeToString())
    compiled = core.compile_model(read, "CPU", {"INFERENCE_PRECISION_HINT": "bf16"})
    nodes = compiled.get_runtime_model().get_ops()
    arrows = [(layer_type(value.get_node()), layer_type(node)) for node in nodes for value in node.input_values()]
    before = [start for start, end in arrows if end == "Reference"]
    behind = [end for start, end in arrows if start == "Reference"]
    assert (before[:3], behind) == (["FullyConnected"] * 3, ["FullyConnected"])


@pytest.mark.parametrize("shape", [SMALL, Shape(2, 2, 2, 111, 64, 64, 64)], ids=["small", "large"])
def test_static_shapes_and_several_threads(core: Any, shape: Shape) -> None:
    case = make_case(shape, masked=True)
    model = core.read_model(graph(case, static=True))
    assert not model.is_dynamic()
    assert torch.equal(run(core, model, case, threads=3), on_cpu(case))


def test_one_compiled_model_takes_any_sizes(core: Any) -> None:
    case, longer = make_case(SMALL, masked=True), make_case(SMALL._replace(batch=3, queries=70, keys=90), masked=True)
    longer = longer._replace(tensors=longer.tensors | {name: case.tensors[name] for name in SCALARS})
    compiled = core.compile_model(core.read_model(graph(case)), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for each in (case, longer, case):
        given = zip(NAMES, each.arguments, strict=True)
        (found,) = compiled({n: t.numpy() for n, t in given if t is not None and n not in SCALARS}).values()
        assert torch.equal(torch.from_numpy(found), on_cpu(each))


def test_one_number_serves_all_heads(core: Any) -> None:
    require_one_number_for_all_heads(lambda case: run(core, core.read_model(graph(case)), case))


@pytest.mark.parametrize("dtype", [TensorProto.FLOAT, TensorProto.BFLOAT16], ids=["float32", "bfloat16"])
def test_files_of_openvino_keep_it(core: Any, dtype: int, tmp_path: Path) -> None:
    case = make_case(SMALL, masked=True, bias="H", is_signed=False, is_causal=True, center="none", length_reference=0.1)
    model = core.read_model(graph(case, dtype=dtype))
    there = run(core, model, case)
    openvino.save_model(model, tmp_path / "model.xml", compress_to_fp16=False)
    assert torch.equal(run(core, core.read_model(tmp_path / "model.xml"), case), there)


def test_nan_in_masked_keys_is_not_read(core: Any) -> None:
    require_masked_keys_unread(lambda case: run(core, core.read_model(graph(case)), case))


WRONG = [
    ({"num_heads": 3}, {}, "num_heads (3) must be a multiple of kv_num_heads (2)"),
    ({"center": "min"}, {}, "center must be mean or none, got min"),
    ({"length_reference": -1.0}, {}, "length_reference must be positive and finite"),
    ({}, {"gamma": torch.ones(3)}, "gamma must hold 1 or 4 numbers, got shape [3]"),
    ({}, {"key": torch.ones(2, 6, 8)}, "query must have 4 heads, key and value 2, and query and key heads of one size"),
    ({}, {"key": torch.ones(6, 6)}, "query, key and value must have 3 dimensions"),
]


@pytest.mark.parametrize(("attributes", "tensors", "message"), WRONG, ids=[message for *_, message in WRONG])
def test_what_is_wrong_with_a_graph_is_said(
    core: Any, attributes: dict[str, Any], tensors: dict[str, Tensor], message: str
) -> None:
    case = make_case(SMALL)
    case = Case(case.tensors | tensors, case.attributes | attributes)
    with pytest.raises(RuntimeError, match=re.escape(message)):
        core.read_model(graph(case, static=True))


def test_what_is_wrong_with_the_sizes_of_a_call_is_said(core: Any) -> None:
    case = make_case(SMALL, masked=True)
    shorter = case._replace(tensors=case.tensors | {"key_padding_mask": torch.ones(2, 5, dtype=torch.bool)})
    with pytest.raises(RuntimeError, match=re.escape("key_padding_mask must be (2, 6), got (2, 5)")):
        run(core, core.read_model(graph(case)), shorter, threads=2)  # findings/openvino-errors-of-one-thread.sh


def test_types_that_it_does_not_take(core: Any) -> None:
    with pytest.raises(RuntimeError, match="query, key and value must all be f32 or all bf16, got f64, f64, f64"):
        core.read_model(graph(make_case(SMALL), dtype=TensorProto.DOUBLE))


class SignalStack(ctypes.Structure):
    """stack_t of Linux, zero but for SS_DISABLE where there is none."""

    _fields_ = (("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


def signal_stack() -> tuple[int | None, int, int]:
    found = SignalStack()
    assert ctypes.CDLL(None).sigaltstack(None, ctypes.byref(found)) == 0
    return found.start, found.flags, found.size


@pytest.mark.skipif(sys.platform != "linux", reason="the structure is Linux's")
def test_cores_that_are_gone_leave_signals_as_they_were() -> None:
    """findings/openvino-signal-stack.sh"""
    before, case = signal_stack(), make_case(SHAPES[0])
    first, second = openvino_operator.new_core(), openvino_operator.new_core()
    for core in (first, second):
        openvino_operator.register(core)
        run(core, core.read_model(graph(case)), case)
    del core, first
    del second
    assert signal_stack() == before


def test_threads_are_those_of_openvino() -> None:
    """In a process of its own: OpenVINO's threads stay once they have been started."""
    code = f"""
import os, sys, numpy as np, openvino
core = openvino.Core()
core.add_extension({str(EXTENSION)!r})
model, x = core.read_model(sys.stdin.buffer.read()), np.zeros((4, 200, 256), np.float32)
for threads in (1, 2):
    compiled = core.compile_model(model, "CPU", {{"INFERENCE_NUM_THREADS": threads}})
    before = len(os.listdir("/proc/self/task"))
    for _ in range(20): compiled([x, x, x])
    print(len(os.listdir("/proc/self/task")) - before)
"""
    model = graph(make_case(Shape(4, 8, 8, 200, 200, 32, 32)))
    run = subprocess.run([sys.executable, "-c", code], input=model, capture_output=True, check=True)
    assert [int(number) for number in run.stdout.split()] == [0, 1 if len(os.sched_getaffinity(0)) > 1 else 0]


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "inhibitor-transformers" / "openvino"


def test_it_is_compiled_once(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = openvino_operator.extension_path()
    assert path.parent.parent == empty_cache
    assert path.parent.name.startswith(openvino.__version__.split("-")[0])
    assert [file.name for file in empty_cache.iterdir()] == [path.parent.name]
    monkeypatch.setattr(subprocess, "run", None)
    assert openvino_operator.extension_path() == path


def test_a_copy_needs_neither_cache_nor_package(empty_cache: Path, tmp_path: Path) -> None:
    """In a process of its own that does not import this package."""
    shutil.copytree(EXTENSION.parent, empty_cache / EXTENSION.parent.name)
    folder = tmp_path / "copy"
    folder.mkdir()
    copied = openvino_operator.copy_extension(folder)
    shutil.rmtree(empty_cache)
    code = f"""
import sys, openvino
core = openvino.Core()
core.add_extension({str(copied)!r})
core.compile_model(core.read_model(sys.stdin.buffer.read()), "CPU")
print([name for name in sys.modules if name.startswith(("inhibitor", "torch"))])
print(*(line.split()[-1] for line in open("/proc/self/maps") if "_cpu_kernels" in line))
"""
    run = subprocess.run([sys.executable, "-c", code], input=graph(make_case(SMALL)), capture_output=True, check=True)
    modules, kernels = run.stdout.decode().splitlines()
    assert modules == "[]"
    assert set(kernels.split()) == {str(folder / "_cpu_kernels.so")}


@pytest.mark.parametrize(
    ("compiler", "message"),
    [
        ("", "there is no C++ compiler: install GCC or Clang"),
        (f"{sys.executable} -c 'raise SystemExit(\"broken\")'", "cannot be compiled by"),
    ],
    ids=["none", "failing"],
)
def test_without_a_compiler_there_is_a_reason(
    compiler: str, message: str, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", compiler)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(openvino_operator.ExtensionError, match=re.escape(message)):
        openvino_operator.extension_path()
    assert not empty_cache.exists() or not list(empty_cache.iterdir())
