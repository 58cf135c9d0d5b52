"""The kernels in a C program: installed as `make c-library` does, found by pkg-config, compared with the reference."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from torch import Tensor

from inhibitor_transformers.attention import inhibitor_attention
from tests.conftest import REPOSITORY

PROGRAM = REPOSITORY / "examples" / "c" / "attention.c"
HEADER = REPOSITORY / "csrc" / "inhibitor.h"
STRICT = ("-pedantic", "-Wall", "-Wextra", "-Werror")


@pytest.fixture(scope="module")
def tools() -> None:
    if missing := [name for name in ("cc", "c++", "cmake", "pkg-config") if shutil.which(name) is None]:
        pytest.skip(f"not installed: {', '.join(missing)}")


@pytest.fixture(scope="module")
def prefix(tools: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the library is installed, and then moved to."""
    folder = tmp_path_factory.mktemp("c")
    build = folder / "build"
    run("cmake", "-S", REPOSITORY, "-B", build, "-DINHIBITOR_C_LIBRARY=ON")
    run("cmake", "--build", build, "--parallel", str(min(2, os.cpu_count() or 1)))
    run("cmake", "--install", build, "--component", "c", "--prefix", folder / "installed")
    return (folder / "installed").rename(folder / "moved")


def run(*words: str | Path, **environment: str) -> str:
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, env=os.environ | environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("compiler", "standard", "language"), [("cc", "c99", "c"), ("c++", "c++17", "c++")], ids=["C99", "C++17"]
)
def test_header(tools: None, tmp_path: Path, compiler: str, standard: str, language: str) -> None:
    program = tmp_path / "program"
    program.write_text('#include "inhibitor.h"\nInhibitorIntegerCall call;\n')
    run(
        compiler, f"-std={standard}", "-x", language, *STRICT, f"-I{HEADER.parent}", "-c", program, "-o", tmp_path / "o"
    )


def numbers(step: int, *shape: int) -> Tensor:
    """As the program fills its tensors."""
    return ((torch.arange(torch.Size(shape).numel()) * step % 129 - 64) / 64).reshape(shape).double()


@pytest.mark.slow
def test_program(prefix: Path, tmp_path: Path) -> None:
    pkgconfig = str(next(prefix.rglob("inhibitor.pc")).parent)
    flags = run("pkg-config", "--cflags", "--libs", "inhibitor", PKG_CONFIG_PATH=pkgconfig).split()
    library = next(prefix.rglob("libinhibitor.so")).parent
    run("cc", "-std=c99", *STRICT, PROGRAM, *flags, f"-Wl,-rpath,{library}", "-pthread", "-o", tmp_path / "attention")
    printed = torch.tensor([float(x) for x in run(tmp_path / "attention").split()], dtype=torch.float64)

    shape = (2, 3, 5, 4)
    valid = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    expected = inhibitor_attention(
        numbers(7, *shape),
        numbers(11, *shape),
        numbers(13, *shape),
        gamma=0.5,
        eta=torch.tensor([1.0, 0.5, 2.0]),
        delta=0.25,
        key_padding_mask=valid,
        engine="reference",
    )
    torch.testing.assert_close(printed.reshape(shape), expected, rtol=0, atol=2e-6)
