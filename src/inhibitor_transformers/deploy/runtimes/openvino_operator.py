"""OpenVINO's operator inhibitor::InhibitorAttention, which runs exported models at the speed of the CPU kernels.

    core = openvino.Core()
    register(core)
    model = core.compile_model("exported/model.onnx", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})  # or "bf16"

OpenVINO's operators are C++ classes of its own headers: an extension serves one release. It is compiled on first use,
with the headers in OpenVINO's wheel, in some 10 seconds, and kept in the user's cache. Neither this module nor the
extension needs torch or transformers. csrc/runtimes/attention.h says what inputs and attributes the operator has; it
takes float32 and bfloat16, on the processor, with the threads of the inference.

From another language, or where there is no compiler, give a copy of the two files that `copy_extension` makes to
ov::Core::add_extension. Tried in OpenVINO 2025.4.1 and 2026.4.1.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ...common.paths import user_cache
from .onnxruntime_operator import shared_library as kernels_path

NAME = "inhibitor_openvino.so"
_SOURCES = (
    *("runtimes/openvino.cpp", "runtimes/openvino_common.h", "runtimes/openvino_integers.h"),
    *("runtimes/attention.cpp", "runtimes/attention.h", "runtimes/shapes.h"),
    *("runtimes/integer_attention.cpp", "runtimes/integer_attention.h", "inhibitor.h"),
)
_COMPILERS = ("c++", "g++", "clang++")
_FLAGS = ("-std=c++17", "-O2", "-fPIC", "-shared", "-fvisibility=hidden")


class ExtensionError(RuntimeError):
    """The extension cannot be compiled; the message says why."""


def new_core() -> Any:
    """An `openvino.Core` that may be released while others live; needs openvino.

    What computes on the processor puts a signal stack under the thread that loads it. Of two Cores the second released
    puts that of the first back, freed by then: the next signal would end the process
    (findings/openvino-signal-stack.sh). So a thread that ends loads it.
    """
    import openvino

    core = openvino.Core()
    with ThreadPoolExecutor(1) as thread:
        thread.submit(core.get_property, "CPU", "FULL_DEVICE_NAME").result()
    return core


def register(core: Any) -> None:
    """Make the operator known to an `openvino.Core`. Raises as `extension_path`."""
    core.add_extension(str(extension_path()))


def extension_path() -> Path:
    """The extension for the OpenVINO that is installed, compiled unless it is in the cache.

    It lies beside a copy of the kernels that it loads; `copy_extension` copies both. Raises ExtensionError if there is
    no C++ compiler or it fails, RuntimeError if the package was installed without kernels, and OSError if the cache
    cannot be written.
    """
    kernels, sources, compiler = kernels_path(), _source_folder(), _compiler()
    command = [*compiler, *_FLAGS, *_openvino_flags()]
    folder = user_cache("openvino") / _key(kernels, sources, command)
    if not (folder / NAME).exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix="half-") as half:
            made = Path(half) / "made"
            made.mkdir()
            _compile(command, kernels, sources, made)
            _publish(made, folder)
    return folder / NAME


def copy_extension(folder: Path) -> Path:
    """Copy the extension and its kernels to `folder`; returns the file to load. Raises as `extension_path`."""
    path = extension_path()
    for file in (path.with_name(kernels_path().name), path):
        shutil.copy(file, folder)
    return folder / NAME


def _compile(command: list[str], kernels: Path, sources: Path, folder: Path) -> None:
    shutil.copy(kernels, folder)
    files = [str(sources / name) for name in _SOURCES if name.endswith(".cpp")]
    # By its bare name, from within the folder: wherever the pair is loaded, the kernels are those beside the extension.
    linked = [kernels.name, "-Wl,-rpath,$ORIGIN", *_openvino_libraries()]
    run = subprocess.run([*command, *files, "-o", NAME, *linked], cwd=folder, capture_output=True, text=True)
    if run.returncode != 0:
        raise ExtensionError(
            f"OpenVINO's operator cannot be compiled by {shlex.join(command[:1])}:\n{run.stderr.strip()[-2000:]}"
        )


def _publish(made: Path, folder: Path) -> None:
    """Two processes may compile at once: the first to finish is kept."""
    try:
        made.rename(folder)
    except OSError:
        if not (folder / NAME).exists():
            raise


def _compiler() -> list[str]:
    if asked := shlex.split(os.environ.get("CXX", "")):
        return asked
    for name in _COMPILERS:
        if found := shutil.which(name):
            return [found]
    raise ExtensionError(
        "OpenVINO's operator is compiled on first use, and there is no C++ compiler: install GCC or Clang (on Debian, "
        "apt install g++), or set CXX"
    )


def _source_folder() -> Path:
    """csrc/, of the source tree or as it was installed beside the kernels."""
    folders = (Path(__file__).parents[4] / "csrc", kernels_path().parents[1] / "csrc")
    for folder in folders:
        if all((folder / name).exists() for name in _SOURCES):
            return folder
    raise ExtensionError(f"the sources of OpenVINO's operator are not in {folders[1]}: install the package again")


def _openvino_flags() -> list[str]:
    """As OpenVINO's own CMake files want programs compiled: its ABI of strings, and the threads that it has."""
    root = _openvino_root()
    settings = (root / "cmake" / "OpenVINOTargets.cmake").read_text(encoding="utf-8")
    found = re.findall(r'INTERFACE_COMPILE_DEFINITIONS "([^"]*)"', settings)
    names = sorted({name for definitions in found for name in definitions.split(";")})
    return [*(f"-D{name}" for name in names), "-isystem", str(root / "include")]


def _openvino_libraries() -> list[str]:
    folder = _openvino_root() / "libs"
    wanted = ("libopenvino.", "libtbb.")
    return [str(file) for file in sorted(folder.iterdir()) if file.name.startswith(wanted)]


def _openvino_root() -> Path:
    import openvino

    root = Path(openvino.__file__).parent
    if not (root / "cmake" / "OpenVINOTargets.cmake").exists():
        raise ExtensionError(f"{root} has no headers of OpenVINO: install it by pip install openvino")
    return root


def _key(kernels: Path, sources: Path, command: list[str]) -> str:
    import openvino

    digest = hashlib.sha256(repr([openvino.get_version(), command]).encode())
    for file in (kernels, *(sources / name for name in _SOURCES)):
        digest.update(file.read_bytes())
    return f"{openvino.get_version().split('-')[0]}-{digest.hexdigest()[:16]}"
