"""The shared library of compiled kernels: where it lies, which instruction set it uses, whose threads it borrows.

csrc/library.cpp exports the functions that are called here.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import re
import sys
from ctypes import c_char_p, c_float, c_int64, c_void_p
from dataclasses import dataclass
from pathlib import Path

import torch

from ..transforms import constant_when_compiled
from .abi import ABI_VERSION, CALL, INTEGER_CALL

ISA_VARIABLE = "INHIBITOR_ISA"
_MODULE = "inhibitor_transformers.attention._cpu_kernels"


class UnavailableError(RuntimeError):
    """The library cannot be used; the message says why."""


@dataclass
class Library:
    """A loaded library and what it runs on."""

    handle: ctypes.CDLL
    isa: str
    isas: list[str]
    threading: str

    def use_isa(self, name: str) -> None:
        """Choose an instruction set. Raises UnavailableError when it was not built or the processor lacks it."""
        if self.handle.inhibitor_use_isa(name.encode()) != 0:
            raise UnavailableError(f"instruction set {name!r} is not available here; available: {self.isas}")
        self.isa = name

    def forward(self, call: bytes) -> None:
        """Run the forward pass of a packed `CALL`. Raises MemoryError."""
        if self.handle.inhibitor_forward(call) != 0:
            raise MemoryError("inhibitor attention: no memory for the scratch of one thread")

    def backward(self, call: bytes) -> None:
        """Run the backward pass of a packed `CALL`. Raises MemoryError."""
        if self.handle.inhibitor_backward(call) != 0:
            raise MemoryError("inhibitor attention: no memory for the scratch of one thread")

    def integer_forward(self, call: bytes) -> None:
        """Run the integer operation of a packed `CALL` + `INTEGER_CALL`. Raises MemoryError."""
        if self.handle.inhibitor_integer_forward(call) != 0:
            raise MemoryError("integer inhibitor attention: no memory for the scratch of one thread")

    def quantize_uint8(self, x: int, rows: int, features: int, inverse_step: int, zero_point: float, out: int) -> None:
        """Write uint8 to address `out` from float32 at `x`, both (rows, features); `inverse_step`: float32 (features,).

        All are addresses of contiguous memory. Raises MemoryError.
        """
        if self.handle.inhibitor_quantize_uint8(x, rows, features, inverse_step, zero_point, out, threads()) != 0:
            raise MemoryError("quantization: no memory for the scratch of one thread")

    @property
    def integer_isa(self) -> str:
        """The instructions that integers use under the chosen instruction set."""
        name: bytes = self.handle.inhibitor_integer_isa()
        return name.decode()

    def poison_scratch(self, on: bool) -> None:
        """Fill scratch with NaN before each use (for tests)."""
        self.handle.inhibitor_poison_scratch(int(on))


_loaded: Library | str | None = None


def load() -> Library:
    """The library, loaded on first use. Raises UnavailableError."""
    global _loaded
    if _loaded is None:
        try:
            _loaded = _open_and_check()
        except UnavailableError as reason:
            _loaded = str(reason)
    if isinstance(_loaded, str):
        raise UnavailableError(_loaded)
    return _loaded


@constant_when_compiled
def unavailable() -> str | None:
    """Why the library cannot be used here; None when it can."""
    try:
        load()
    except UnavailableError as reason:
        return str(reason)
    return None


def threads() -> int:
    """Threads for one call: torch's number, but one in a forked child, whose copied thread pool is dead."""
    return 1 if _forked else torch.get_num_threads()


_forked = False


def _after_fork() -> None:
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _open_and_check() -> Library:
    handle = _open(find())
    isas: list[str] = []
    while (name := handle.inhibitor_isa(len(isas))) is not None:
        isas.append(name.decode())
    loaded = Library(handle, "", isas, _share_threads(handle))
    asked = os.environ.get(ISA_VARIABLE, "").strip().lower()
    if asked and asked not in isas:
        raise UnavailableError(f"{ISA_VARIABLE}={asked!r} is not available here; available: {isas}")
    loaded.use_isa(asked or isas[0])
    return loaded


def find() -> Path:
    """Where the library lies; those of csrc/runtimes lie beside it. Raises UnavailableError."""
    # Found as if it were an extension module (.so, on Windows .pyd): true for wheels and for editable installs alike.
    spec = importlib.util.find_spec(_MODULE)
    if spec is None or spec.origin is None:
        raise UnavailableError("the package was installed without compiled kernels (no C++17 compiler at install time)")
    return Path(spec.origin)


def _open(path: Path) -> ctypes.CDLL:
    try:
        handle = ctypes.CDLL(str(path))
    except OSError as error:
        raise UnavailableError(f"the compiled kernels cannot be loaded: {error}") from error
    for name in ("inhibitor_abi_version", "inhibitor_call_bytes", "inhibitor_integer_call_bytes"):
        getattr(handle, name).restype = c_int64
    sizes = (CALL.size, CALL.size + INTEGER_CALL.size)
    if handle.inhibitor_abi_version() != ABI_VERSION or sizes != (
        handle.inhibitor_call_bytes(),
        handle.inhibitor_integer_call_bytes(),
    ):  # before the other functions, which another version may lack
        raise UnavailableError("the compiled kernels are of another version than this package: install it again")
    handle.inhibitor_isa.restype = handle.inhibitor_integer_isa.restype = c_char_p
    handle.inhibitor_isa.argtypes = [c_int64]
    handle.inhibitor_use_isa.restype = c_int64
    handle.inhibitor_use_isa.argtypes = [c_char_p]
    handle.inhibitor_set_parallel.restype = None
    handle.inhibitor_set_parallel.argtypes = [c_void_p]
    handle.inhibitor_poison_scratch.restype = None
    handle.inhibitor_poison_scratch.argtypes = [c_int64]
    for name in ("inhibitor_forward", "inhibitor_backward", "inhibitor_integer_forward"):
        getattr(handle, name).restype = c_int64
        getattr(handle, name).argtypes = [c_char_p]
    handle.inhibitor_quantize_uint8.restype = c_int64
    handle.inhibitor_quantize_uint8.argtypes = [c_void_p, c_int64, c_int64, c_void_p, c_float, c_void_p, c_int64]
    return handle


def _share_threads(handle: ctypes.CDLL) -> str:
    """Hand the entry point of torch's OpenMP runtime to the kernels; returns what they will use."""
    if sys.platform == "win32":
        return "one thread (torch's OpenMP runtime has no GOMP_parallel on Windows)"
    for path in _openmp_runtimes():
        try:
            entry = ctypes.cast(ctypes.CDLL(str(path)).GOMP_parallel, c_void_p)
        except (OSError, AttributeError):
            continue
        handle.inhibitor_set_parallel(entry)
        return f"torch's OpenMP runtime ({path.name})"
    return "one thread (torch's OpenMP runtime was not found)"


def _openmp_runtimes() -> list[Path]:
    """OpenMP runtimes in this process, torch's own first. Never one that torch has not loaded."""
    beside_torch = Path(torch.__file__).parent
    if sys.platform == "darwin":
        return sorted((beside_torch / "lib").glob("lib*omp*.dylib"))
    try:
        mapped = Path("/proc/self/maps").read_text()
    except OSError:
        return []
    found = {Path(p) for p in re.findall(r"(/\S*lib(?:gomp|iomp5|omp)[\w.-]*\.so[\w.]*)", mapped)}
    return sorted(found, key=lambda p: (beside_torch.parent not in p.parents, str(p)))
