"""Checks wheels: that the kernels are in, for which system they were built, and what they ask of it.

    python packaging/check_wheel.py WHEEL …

A system's own libraries are all that a library may need: no C++ runtime, no glibc above the tag's.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from zipfile import ZipFile

import lief

lief.logging.disable()  # notes about files that it reads well

REPOSITORY = Path(__file__).resolve().parents[1]
KERNELS = "inhibitor_transformers/attention/_cpu_kernels"
SUFFIXES = (".so", ".pyd", ".dll", ".dylib")
MACHINES = {
    "x86_64": {lief.ELF.ARCH.X86_64, lief.MachO.Header.CPU_TYPE.X86_64},
    "amd64": {lief.PE.Header.MACHINE_TYPES.AMD64},
    "aarch64": {lief.ELF.ARCH.AARCH64},
    "arm64": {lief.MachO.Header.CPU_TYPE.ARM64},
}
# Each system's format, and where its header names the processor.
FORMATS = {
    "manylinux": (lief.ELF.Binary, "machine_type"),
    "macosx": (lief.MachO.Binary, "cpu_type"),
    "win": (lief.PE.Binary, "machine"),
}
# Of Windows 10: its kernel and its C runtime.
SYSTEM_DLL = re.compile(r"(kernel32|ntdll|api-ms-win-crt-[\w-]+)\.dll", re.IGNORECASE)

# What the operator in torch finds in its process: torch is there.
TORCH = {"libtorch_cpu.so", "@rpath/libtorch_cpu.dylib"}


class WheelError(ValueError):
    """A wheel that must not be released; the message says all that is wrong with it."""


def exported_functions() -> set[str]:
    """The functions that csrc/inhibitor.h declares."""
    header = (REPOSITORY / "csrc" / "inhibitor.h").read_text("utf-8")
    return set(re.findall(r"^INHIBITOR_EXPORT [\w* ]+?(\w+)\(", header, re.MULTILINE))


def check(wheel: Path) -> None:
    """Raises WheelError."""
    platform = wheel.stem.split("-")[-1]
    with ZipFile(wheel) as archive:
        binaries = {name: archive.read(name) for name in archive.namelist() if name.endswith(SUFFIXES)}
    faults = (
        [] if any(str(PurePosixPath(name).with_suffix("")) == KERNELS for name in binaries) else ["no kernels in it"]
    )
    for name, content in binaries.items():
        faults += [f"{name}: {fault}" for fault in faults_of_binary(name, lief.parse(list(content)), platform)]
    if platform.startswith("manylinux") and binaries:
        faults += faults_of_manylinux(wheel, platform)
    if faults:
        raise WheelError(f"{wheel.name}: " + "; ".join(faults))


def faults_of_binary(name: str, binary: lief.Binary, platform: str) -> Iterator[str]:
    system, machine = re.fullmatch(r"(manylinux|macosx|win)_(?:\d+_\d+_)?(\w+)", platform).groups()
    expected, processor = FORMATS[system]
    if not isinstance(binary, expected):
        yield f"it is no library of {system}"
        return
    if (found := getattr(binary.header, processor)) not in MACHINES[machine]:
        yield f"it is for {found}"
    if str(PurePosixPath(name).with_suffix("")) == KERNELS:
        exported = {function.name.removeprefix("_") for function in binary.exported_functions}
        if missing := exported_functions() - exported:
            yield f"it does not export {sorted(missing)}"
    if system == "macosx":
        yield from faults_of_macos(binary, platform)
    if system == "win" and (foreign := [i.name for i in binary.imports if not SYSTEM_DLL.fullmatch(i.name)]):
        yield f"it needs {foreign}"


def faults_of_macos(binary: lief.MachO.Binary, platform: str) -> Iterator[str]:
    tagged = tuple(map(int, re.findall(r"\d+", platform)[:2]))
    if (oldest := tuple(binary.build_version.minos[:2])) > tagged:
        yield f"it needs macOS {oldest}"
    needed = {library.name for library in binary.libraries if library.command == lief.MachO.LoadCommand.TYPE.LOAD_DYLIB}
    if foreign := needed - {"/usr/lib/libSystem.B.dylib"} - TORCH:
        yield f"it needs {sorted(foreign)}"
    if platform.endswith("arm64") and not binary.has_code_signature:
        yield "it is not signed, and would not be loaded"


def faults_of_manylinux(wheel: Path, platform: str) -> Iterator[str]:
    shown = subprocess.run(
        [sys.executable, "-m", "auditwheel", "show", "--json", wheel], capture_output=True, text=True
    )
    if shown.returncode:
        yield f"auditwheel: {' '.join((shown.stdout + shown.stderr).split())}"
        return
    audit = json.loads(shown.stdout)
    needed, tagged = (re.fullmatch(r"manylinux_2_(\d+)_\w+", tag) for tag in (audit["sym_tag"], platform))
    if needed is None or int(needed[1]) > int(tagged[1]):
        yield f"auditwheel: it needs {audit['sym_tag']}"
    if foreign := sorted(set(audit["external_libs"]) - TORCH):
        yield f"auditwheel: it needs {foreign}"
    if audit["unsupported_isa"]:
        yield "auditwheel: it needs a newer processor"


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:]):
        check(path)
        print(f"{path.name}: nothing wrong")
