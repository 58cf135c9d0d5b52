"""A compiled package runs from Python and from C++, on any batch, and refuses tokens that are not in its tables."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._inductor import cpp_builder, exc

from inhibitor_transformers.deploy.export import export_model
from inhibitor_transformers.deploy.export.export import RUNTIMES
from inhibitor_transformers.deploy.runtimes import torch_operator
from tests.conftest import REPOSITORY
from tests.deploy.export.cases import saved_student
from tests.deploy.export.test_to_torch import inputs_of, run_without_package
from tests.models.tiny import POSITIONS, outputs_of

AOTINDUCTOR = RUNTIMES["aotinductor"]
needs_compiler = pytest.mark.skipif(AOTINDUCTOR.missing() is not None, reason=f"AOTInductor: {AOTINDUCTOR.missing()}")
TORCH = Path(torch.__file__).parent


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A model with segments and centered values, and its package."""
    folder = tmp_path_factory.mktemp("compiled")
    source, model = saved_student(folder / "model", type_vocab_size=2, inhibitor_value_center="mean")
    done = export_model(source, folder / "out", "aotinductor")
    assert list(done.differences) == ["operator"]
    return model, done.file


def with_types(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    return inputs | {"token_type_ids": torch.randint(0, 2, inputs["input_ids"].shape)}


@pytest.mark.slow
@needs_compiler
def test_it_runs_with_the_library_and_nothing_else(compiled: tuple[Any, Path], tmp_path: Path) -> None:
    model, file = compiled
    batches = [with_types(inputs_of(*shape)) for shape in ((2, 1), (2, POSITIONS), (5, 31))]
    batches.append({name: t[:1] for name, t in batches[1].items()})
    torch.save(batches, tmp_path / "inputs")
    run = f"""
run = torch._inductor.aoti_load_package({str(file)!r})
torch.save([run(**inputs) for inputs in torch.load({str(tmp_path / "inputs")!r})], {str(tmp_path / "outputs")!r})
"""
    assert "Could not find schema for inhibitor::InhibitorAttention" in run_without_package(run).stderr
    ran = run_without_package(f"torch.ops.load_library({str(file.with_name(torch_operator.FILE))!r})\n{run}")
    assert ran.returncode == 0, ran.stderr
    for found, inputs in zip(torch.load(tmp_path / "outputs"), batches, strict=True):
        torch.testing.assert_close(found, outputs_of(model, **inputs), atol=1e-5, rtol=1e-4)


@pytest.mark.slow
@needs_compiler
def test_what_it_cannot_look_up_is_an_error(compiled: tuple[Any, Path]) -> None:
    _, file = compiled
    ((_, run),) = AOTINDUCTOR.runs(file, "float32")
    inputs = with_types(inputs_of(3, 7))
    for changed, message in [
        ({"input_ids": inputs["input_ids"] + 100}, "input_ids must be at least 0 and below 100"),
        ({"input_ids": -inputs["input_ids"]}, "input_ids must be at least 0"),
        ({"token_type_ids": inputs["token_type_ids"] + 1}, "token_type_ids must be at least 0 and below 2"),
        (with_types(inputs_of(3, POSITIONS + 1)), f"the model takes {POSITIONS} tokens at most"),
    ]:
        with pytest.raises(RuntimeError, match=message):
            run(inputs | changed)
    run(inputs)


@pytest.mark.slow
@needs_compiler
def test_without_python(tmp_path: Path) -> None:
    """The example, compiled and run; it has the inputs checked, for which a batch of one is not too small."""
    source, model = saved_student(tmp_path / "model")
    done = export_model(source, tmp_path / "out", "aotinductor")
    program, compiler = tmp_path / "encode", os.environ.get("CXX", "g++")
    include = TORCH / "include"
    flags = ["-std=c++20", f"-I{include}", f"-I{include / 'torch' / 'csrc' / 'api' / 'include'}"]
    links = [f"-L{TORCH / 'lib'}", "-ltorch", "-ltorch_cpu", "-lc10", f"-Wl,-rpath,{TORCH / 'lib'}"]
    source_file = REPOSITORY / "examples" / "aotinductor.cpp"
    subprocess.run([compiler, *flags, source_file, "-o", program, *links], check=True, timeout=250)
    if shutil.which("ldd"):
        linked = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
        assert "libtorch_cpu" in linked
        assert "python3" not in linked.replace(str(TORCH), "")

    def encode(library: Path, *ids: int) -> subprocess.CompletedProcess[str]:
        command = [program, done.file, library, *map(str, ids)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    ids = [7, 8, 9, 40]
    ran = encode(torch_operator.shared_library(), *ids)
    assert ran.returncode == 0, ran.stderr
    tokens = torch.tensor([ids])
    mean = outputs_of(model, input_ids=tokens, attention_mask=torch.ones_like(tokens))["last_hidden_state"].mean((0, 1))
    torch.testing.assert_close(torch.tensor([float(n) for n in ran.stdout.split()]), mean, atol=1e-5, rtol=1e-4)
    assert "cannot open shared object" in encode(tmp_path / "nothing.so", *ids).stderr
    assert "input_ids must be at least 0 and below 100" in encode(torch_operator.shared_library(), 100).stderr


def test_without_a_compiler_nothing_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> None:
        raise exc.InvalidCxxCompiler

    monkeypatch.setattr(cpp_builder, "get_cpp_compiler", fails)
    with pytest.raises(ValueError, match="cannot be exported for here: no C\\+\\+ compiler was found; set CXX to one"):
        export_model("nothing", tmp_path / "out", "aotinductor")
    assert not (tmp_path / "out").exists()
