"""What is wrong with a wheel is seen: wheels made by hand around the kernels that are installed."""

from __future__ import annotations

import importlib
import platform
import sys
from pathlib import Path
from types import ModuleType
from zipfile import ZipFile

import pytest

from inhibitor_transformers.attention.cpu import library
from tests.conftest import REPOSITORY

pytest.importorskip("lief", reason="lief is not installed: pip install 'inhibitor-transformers[wheels]'")
pytest.importorskip("auditwheel", reason="auditwheel is not installed")
if library.unavailable() or sys.platform != "linux":
    pytest.skip("no kernels for Linux", allow_module_level=True)

MACHINE = platform.machine()


@pytest.fixture(scope="module")
def checks() -> ModuleType:
    sys.path.insert(0, str(REPOSITORY / "packaging"))
    try:
        return importlib.import_module("check_wheel")
    finally:
        del sys.path[0]


def wheel(folder: Path, tag: str, content: bytes | None) -> Path:
    path = folder / f"inhibitor_transformers-0.1.0-py3-none-{tag}.whl"
    files = {"inhibitor_transformers/__init__.py": b""}
    if content is not None:
        files["inhibitor_transformers/attention/_cpu_kernels.so"] = content
    files["inhibitor_transformers-0.1.0.dist-info/RECORD"] = "".join(f"{name},,\n" for name in files).encode()
    with ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def test_without_kernels(checks: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(checks.WheelError, match="no kernels in it"):
        checks.check(wheel(tmp_path, f"manylinux_2_17_{MACHINE}", None))


def test_of_another_system(checks: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(checks.WheelError, match="no library of macosx"):
        checks.check(wheel(tmp_path, "macosx_11_0_arm64", library.find().read_bytes()))


def test_of_another_processor(checks: ModuleType, tmp_path: Path) -> None:
    other = "aarch64" if MACHINE == "x86_64" else "x86_64"
    with pytest.raises(checks.WheelError, match=r"it is for ARCH\."):
        checks.check(wheel(tmp_path, f"manylinux_2_17_{other}", library.find().read_bytes()))


def test_for_an_older_system_than_it_needs(checks: ModuleType, tmp_path: Path) -> None:
    """Kernels compiled here need this machine's C++ library and glibc."""
    with pytest.raises(checks.WheelError, match=rf"auditwheel: it needs manylinux_2_\d+_{MACHINE}$"):
        checks.check(wheel(tmp_path, f"manylinux_2_5_{MACHINE}", library.find().read_bytes()))


def test_without_a_function(checks: ModuleType, tmp_path: Path) -> None:
    content = library.find().read_bytes().replace(b"inhibitor_isa\0", b"inhibitor_iza\0")
    with pytest.raises(checks.WheelError, match=r"does not export \['inhibitor_isa'\]"):
        checks.check(wheel(tmp_path, f"manylinux_2_17_{MACHINE}", content))


def test_functions_of_the_header(checks: ModuleType) -> None:
    assert {"inhibitor_isa", "inhibitor_set_parallel", "inhibitor_quantize_uint8"} <= checks.exported_functions()
