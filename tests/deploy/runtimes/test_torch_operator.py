"""torch's operator is the engine, asks for no torch to be built, and needs nothing of torch that is not stable."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.library import opcheck

from inhibitor_transformers.attention.cpu import library
from inhibitor_transformers.deploy.runtimes import torch_operator
from tests.attention.cases import Shape
from tests.attention.engine_cases import error
from tests.deploy.runtimes.cases import (
    OPTIONS,
    SHAPES,
    SMALL,
    Case,
    expected,
    flat,
    make_case,
    require_masked_keys_unread,
    require_one_number_for_all_heads,
)

if torch_operator.unavailable():
    pytest.skip(f"torch's operator: {torch_operator.unavailable()}", allow_module_level=True)
attention = torch_operator.load()

CSRC = Path(__file__).resolve().parents[3] / "csrc" / "runtimes"
TORCH = Path(torch.__file__).parent


def run(case: Case) -> Tensor:
    return attention(*case.arguments, **case.attributes)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: "-".join(map(str, s)))
def test_it_is_the_engine(shape: Shape, options: dict[str, Any]) -> None:
    case = make_case(shape, **options)
    found = run(case)
    assert found.is_contiguous()
    assert torch.equal(found, expected(case, dtype=torch.float32, engine="cpu"))
    assert error(found, expected(case)) < 1e-5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    case = make_case(SMALL, masked=True)
    halves = {name: t.to(dtype) for name, t in case.tensors.items() if name in ("query", "key", "value")}
    found = run(case._replace(tensors=case.tensors | halves))
    exact = run(case._replace(tensors=case.tensors | {name: t.float() for name, t in halves.items()}))
    assert torch.equal(found, exact.to(dtype))


def test_any_strides() -> None:
    case = make_case(SMALL, masked=True, bias="H")
    spread = {n: None if t is None else torch.stack([t, t], -1)[..., 0] for n, t in case.tensors.items()}
    assert not spread["query"].is_contiguous()
    assert torch.equal(run(case._replace(tensors=spread)), run(case))


def test_one_number_serves_all_heads() -> None:
    require_one_number_for_all_heads(run)


def test_as_many_heads_of_keys_unless_said() -> None:
    case = make_case(SMALL._replace(kv_heads=4))
    assert torch.equal(attention(*case.arguments, 4), run(case))


def test_nan_in_masked_keys_is_not_read() -> None:
    require_masked_keys_unread(run)


def test_threads_are_those_of_torch(tmp_path: Path) -> None:
    """In a process of its own: threads stay once they have been started."""
    code = f"""
import os, torch
torch.ops.load_library({str(torch_operator.shared_library())!r})
def threads(): return len(os.listdir("/proc/self/task"))
q, ones = torch.randn(8, 200, 256), torch.ones(4)
def attend(): return torch.ops.inhibitor.InhibitorAttention(q, q, q, None, ones, ones, ones, ones, None, 4)
torch.set_num_threads(1)
before = threads()
alone = attend()
assert threads() == before
torch.set_num_threads(3)
torch.randn(1000, 1000).sum()  # torch starts its pool
pool = threads()
assert pool > before
assert torch.equal(attend(), alone)
assert threads() == pool
"""
    if sys.platform != "linux":
        pytest.skip("threads are counted in /proc")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"query": torch.ones(2, 5)}, "must have 3 dimensions"),
        ({"key": torch.ones(1, 6, 6)}, "must have one batch size"),
        ({"value": torch.ones(2, 7, 8)}, "key and value one length"),
        ({"query": torch.ones(2, 5, 13)}, "query must have 4 heads"),
        ({"key": torch.ones(2, 6, 6).double()}, "must be float32, bfloat16 or float16, and all the same"),
        ({"gamma": torch.ones(3)}, r"gamma must hold 1 or 4 numbers, got shape \(3\)"),
        ({"delta": torch.ones(4).long()}, "scalars and score_bias must be float32"),
        ({"key_padding_mask": torch.ones(2, 6)}, "key_padding_mask must be bool"),
        ({"key_padding_mask": torch.ones(2, 5) > 0}, r"key_padding_mask must be \(2, 6\), got \(2, 5\)"),
        ({"score_bias": torch.ones(2, 5, 6)}, r"score_bias must be \(4, 5, 6\) or \(1, 5, 6\), got \(2, 5, 6\)"),
        ({"num_heads": 0}, "num_heads must be at least 1"),
        ({"kv_num_heads": 3}, "must be a multiple of kv_num_heads"),
        ({"length_reference": 0.0}, "length_reference must be positive"),
        ({"center": "min"}, "center must be mean or none, got min"),
    ],
    ids=lambda given: "-".join(given) if isinstance(given, dict) else "",
)
def test_wrong_inputs_are_errors(changed: dict[str, Any], message: str) -> None:
    case = make_case(SMALL)
    tensors = {n: changed.get(n, t) for n, t in case.tensors.items()}
    attributes = case.attributes | {n: v for n, v in changed.items() if n not in tensors}
    with pytest.raises(RuntimeError, match=f"^inhibitor attention: .*{message}"):
        run(Case(tensors, attributes))
    run(case)  # what the call owned is not freed twice


def test_nothing_is_kept() -> None:
    """Neither a call nor one that fails leaves tensors behind."""
    case = make_case(SMALL, masked=True, bias="H")
    wrong = case._replace(attributes=case.attributes | {"center": "min"})
    counts = {name: t._use_count() for name, t in case.tensors.items()}
    for _ in range(3):
        run(case)
        with pytest.raises(RuntimeError):
            run(wrong)
    assert {name: t._use_count() for name, t in case.tensors.items()} == counts


@pytest.mark.parametrize("options", OPTIONS[:5], ids=str)
def test_torch_finds_nothing_amiss(options: dict[str, Any]) -> None:
    case = make_case(SMALL, **options)
    opcheck(attention, case.arguments, case.attributes)


def test_exported_with_dynamic_shapes() -> None:
    class Attends(torch.nn.Module):
        def forward(self, query: Tensor, key: Tensor, value: Tensor, *rest: Tensor | None) -> Tensor:
            return attention(query, key, value, *rest, 4, 2) * 2

    case, other = make_case(SMALL, masked=True), make_case(Shape(5, 4, 2, 9, 11, 3, 4), masked=True)
    auto = {0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO}
    dynamic = (auto, auto, auto, (auto, None, None, None, None, None))
    program = torch.export.export(Attends(), case.arguments, dynamic_shapes=dynamic)
    assert torch.equal(program.module()(*other.arguments), run(other) * 2)
    compiled = torch.compile(Attends(), fullgraph=True, dynamic=True)
    assert torch.equal(compiled(*other.arguments), run(other) * 2)


def test_backward_warns() -> None:
    case = make_case(SMALL)
    leaf = case.tensors["query"].clone().requires_grad_()
    out = run(case._replace(tensors=case.tensors | {"query": leaf}))
    with pytest.warns(UserWarning, match="InhibitorAttention: an autograd kernel was not registered"):
        out.sum().backward()


def test_a_second_copy_leaves_the_operator_to_the_first(tmp_path: Path) -> None:
    copy = tmp_path / "copy.so"
    shutil.copy(torch_operator.shared_library(), copy)
    code = f"""
import torch
for path in ({str(torch_operator.shared_library())!r}, {str(copy)!r}):
    torch.ops.load_library(path)
q, ones = torch.ones(1, 3, 4), torch.ones(2)
print(torch.ops.inhibitor.InhibitorAttention(q, q, q, None, ones, ones, ones, ones, None, 2).shape)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == "torch.Size([1, 3, 4])\n", done.stderr


class TestLibrary:
    """What the file asks of the process that it is loaded into."""

    @pytest.fixture
    def symbols(self) -> list[tuple[str, str]]:
        """Kind and name of every dynamic symbol, without its version."""
        if sys.platform != "linux" or shutil.which("nm") is None:
            pytest.skip("needs nm, of binutils, and ELF")
        listed = subprocess.run(
            ["nm", "-D", torch_operator.shared_library()], capture_output=True, text=True, check=True
        )
        return [(kind, name.partition("@")[0]) for *_, kind, name in map(str.split, listed.stdout.splitlines())]

    def test_only_stable_functions_of_torch(self, symbols: list[tuple[str, str]]) -> None:
        names = [name for _, name in symbols]
        assert not [name for name in names if re.match(r"_ZN?[A-Z]*(2at|3c10|5torch)", name)]
        declared = re.findall(r"^  F\([\w* ]+?, (\w+)", (CSRC / "torch_abi.h").read_text(), re.MULTILINE)
        used = {name for name in names if re.match("(aoti_)?torch_", name)}
        assert used == set(declared)

    def test_nothing_is_offered_to_others(self, symbols: list[tuple[str, str]]) -> None:
        """torch.ops.load_library makes what a library shows everybody's: engine cpu would find these kernels."""
        assert [name for kind, name in symbols if kind not in "Uw"] == []

    def test_it_says_that_torch_is_missing(self) -> None:
        code = f"import ctypes; ctypes.CDLL({str(torch_operator.shared_library())!r})"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
        assert "OSError: libtorch_cpu.so" in done.stderr

    def test_the_declarations_are_those_of_torch(self, tmp_path: Path) -> None:
        if (compiler := shutil.which("c++")) is None:
            pytest.skip("needs a C++ compiler")
        source = tmp_path / "both.cpp"

        def compiles() -> bool:
            command = [compiler, "-std=c++17", "-fsyntax-only", f"-I{TORCH / 'include'}", f"-I{CSRC}", source]
            return subprocess.run(command, capture_output=True, timeout=120, check=False).returncode == 0

        both = '#include <torch/csrc/stable/c/shim.h>\n#include "torch_abi.h"\n'
        source.write_text(both)
        assert compiles()
        source.write_text(both + 'extern "C" int64_t torch_get_num_threads(uint32_t*);\n')
        assert not compiles()  # a conflict is seen


def test_a_package_without_the_library_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_operator, "FILE", "_no_such.so")
    with pytest.raises(library.UnavailableError, match=r"installed without _no_such\.so: install it again"):
        torch_operator.shared_library()


def test_the_layout_of_heads() -> None:
    """Guards `flat`, by which the other tests say what a head is."""
    heads = torch.arange(2 * 3 * 2).view(1, 2, 3, 2)
    assert flat(heads)[0, 0].tolist() == [0, 1, 6, 7]
