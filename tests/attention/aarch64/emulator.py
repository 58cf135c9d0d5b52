"""The kernels for 64-bit ARM, cross-compiled and run by qemu's user mode: in Python they look like a loaded library."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path
from struct import pack, unpack
from typing import NamedTuple

from filelock import FileLock

from inhibitor_transformers.attention.cpu import library
from tests.attention.packed import Region, backward_regions, forward_regions, integer_regions

REPOSITORY = Path(__file__).resolve().parents[3]
COMPILER, EMULATOR, SYSROOT = "aarch64-linux-gnu-g++", "qemu-aarch64", Path("/usr/aarch64-linux-gnu")
TOOLS = (COMPILER, "aarch64-linux-gnu-gcc", EMULATOR, "cmake")
# Processors to emulate: one without dot products of bytes, and one with them.
PLAIN, DOTPROD = "cortex-a53", "cortex-a76"


def missing() -> str | None:
    """What is missing to build and run the kernels; None: nothing."""
    absent = [tool for tool in TOOLS if shutil.which(tool) is None]
    return f"not installed: {', '.join(absent)}" if absent else None


class Built(NamedTuple):
    """The library of kernels, and the program that opens it (serve.c)."""

    kernels: Path
    server: Path


def build() -> Built:
    """Compile, or find up to date, in build/aarch64. Raises CalledProcessError."""
    folder = REPOSITORY / "build" / "aarch64"
    folder.mkdir(parents=True, exist_ok=True)
    server, source = folder / "serve", Path(__file__).with_name("serve.c")
    system = ["-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64", f"-DCMAKE_CXX_COMPILER={COMPILER}"]
    flags = ["-std=gnu99", "-O2", "-Wall", "-Wextra", "-Werror", f"-I{REPOSITORY / 'csrc'}"]
    with FileLock(folder / "lock"):  # several processes of tests
        for command in (
            ["cmake", "-S", REPOSITORY, "-B", folder, *system],
            ["cmake", "--build", folder, "--parallel"],
            ["aarch64-linux-gnu-gcc", *flags, source, "-o", server, "-ldl"],
        ):
            subprocess.run([str(part) for part in command], check=True, capture_output=True)
    return Built(folder / "_cpu_kernels.so", server)


class Server:
    """A running serve.c on an emulated processor, with one instruction set; `options`: of qemu."""

    def __init__(self, built: Built, cpu: str, *isa: str, options: tuple[str, ...] = ()) -> None:
        command = [EMULATOR, "-cpu", cpu, *options, "-L", str(SYSROOT), str(built.server), str(built.kernels), *isa]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        first = self._process.stdout.readline().decode()
        assert first, f"did not start: {' '.join(command)}"
        *self.isas, self.integer_isa = first.split()

    def run(self, function: int, call: bytes, regions: list[Region], *, poison: bool) -> int:
        """The status of a call; what it writes is then where its pointers say."""
        given, answers = self._process.stdin, self._process.stdout
        assert given is not None
        assert answers is not None
        given.write(pack("4q", function, len(call), len(regions), poison) + call)
        for offset, address, size, is_output in regions:
            given.write(pack("3q", offset, size, is_output) + ctypes.string_at(address, size))
        given.flush()
        status = answers.read(8)
        assert len(status) == 8, "the kernels ended before they answered"
        for region in regions:
            if region.is_output:
                ctypes.memmove(region.address, answers.read(region.size), region.size)
        return int(unpack("q", status)[0])

    def close(self) -> None:
        """End the process, after its last answer."""
        self._process.communicate()
        assert self._process.returncode == 0


class Handle:
    """The functions of csrc/inhibitor.h, on an emulated processor; `servers`: of each instruction set."""

    def __init__(self, servers: dict[str, Server]) -> None:
        self._servers, self._poison = servers, False
        self._server = next(iter(servers.values()))

    def inhibitor_use_isa(self, name: bytes) -> int:
        if name.decode() not in self._servers:
            return 1
        self._server = self._servers[name.decode()]
        return 0

    def inhibitor_integer_isa(self) -> bytes:
        return self._server.integer_isa.encode()

    def inhibitor_poison_scratch(self, on: int) -> None:
        self._poison = bool(on)

    def inhibitor_forward(self, call: bytes) -> int:
        return self._server.run(0, call, forward_regions(call), poison=self._poison)

    def inhibitor_backward(self, call: bytes) -> int:
        return self._server.run(1, call, backward_regions(call), poison=self._poison)

    def inhibitor_integer_forward(self, call: bytes) -> int:
        return self._server.run(2, call, integer_regions(call), poison=self._poison)

    def inhibitor_quantize_uint8(
        self, x: int, rows: int, features: int, inverse: int, zero: float, out: int, threads: int
    ) -> int:
        call = pack("4qdq", x, rows, features, inverse, zero, out)
        elements = rows * features
        regions = [Region(0, x, 4 * elements, False), Region(24, inverse, 4 * features, False)]
        return self._server.run(3, call, [*regions, Region(40, out, elements, True)], poison=self._poison)

    def close(self) -> None:
        for server in self._servers.values():
            server.close()


def open_library(built: Built, cpu: str) -> library.Library:
    """The kernels on an emulated processor, as `library.load` gives them; its `handle` is to be closed."""
    first = Server(built, cpu)
    servers = {first.isas[0]: first} | {isa: Server(built, cpu, isa) for isa in first.isas[1:]}
    return library.Library(Handle(servers), first.isas[0], first.isas, "one thread")  # type: ignore[arg-type]
