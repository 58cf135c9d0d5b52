"""Describes this machine: versions, processor, accelerators, engines, and why others are missing."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from typing import NamedTuple

import psutil
import torch
from packaging.requirements import Requirement

from ..attention import engine_report
from ..common.processor import instruction_sets, processor_name
from .energy import energy_counters

DISTRIBUTION = "inhibitor-transformers"
# Said for every install: the model, the operation and the training loop stand on these.
_CORE = ("torch", "transformers", "accelerate", "datasets")


class Fact(NamedTuple):
    """One line of the report, for people to read; also a plain (section, name, value) tuple."""

    section: str
    name: str
    value: str


def environment() -> list[Fact]:
    """Everything worth knowing before a run or in a bug report, in order, section by section.

    Nothing here needs a GPU, a network or transformers; energy counters are watched for up to 0.2 s each.
    """
    return [
        *_packages(),
        *_processor(),
        *_accelerators(),
        *(Fact("engines", name, f"{status} ({description})") for name, description, status in engine_report()),
        *_extras(),
        *(Fact("energy counters", name, status) for name, status in energy_counters()),
    ]


def _packages() -> list[Fact]:
    facts = [
        Fact("packages", DISTRIBUTION, _version(DISTRIBUTION) or "not installed: run from a source folder"),
        Fact("packages", "Python", f"{platform.python_version()} ({sys.executable})"),
    ]
    needed = {r.name: r for r in _requirements()}
    return facts + [Fact("packages", name, _against_range(name, needed.get(name))) for name in _CORE]


def _against_range(name: str, requirement: Requirement | None) -> str:
    version = _version(name)
    if requirement is None:
        return f"{version or 'not installed'} (supported range unknown: the installed metadata declares none)"
    supported = ", ".join(sorted(str(requirement.specifier).split(","), reverse=True))
    if version is None:
        return f"not installed, needed: {supported}"
    verdict = "supported" if _is_satisfied(requirement) else "NOT SUPPORTED"
    return f"{version} ({verdict}: {supported})"


def _processor() -> list[Fact]:
    memory = psutil.virtual_memory()
    sets = " ".join(instruction_sets()) or f"not listed by this system; torch uses {_torch_capability()}"
    return [
        Fact("processor", "model", processor_name()),
        Fact("processor", "instruction sets", sets),
        Fact("processor", "torch kernels", _torch_capability()),
        Fact("processor", "cores", f"{_usable_cores()} for this process, {os.cpu_count()} in the machine"),
        Fact("processor", "torch threads", f"{torch.get_num_threads()}"),
        Fact("processor", "memory", f"{_gib(memory.available)} free of {_gib(memory.total)}"),
    ]


def _torch_capability() -> str:
    return torch.backends.cpu.get_cpu_capability()


def _usable_cores() -> int:
    """Cores that this process may use; taskset and containers can restrict them."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"


def _accelerators() -> list[Fact]:
    return [
        Fact("accelerators", "CUDA", _cuda_status(torch.version.cuda, "CUDA", "NVIDIA")),
        Fact("accelerators", "ROCm", _cuda_status(torch.version.hip, "ROCm", "AMD")),
        Fact("accelerators", "MPS", _mps_status()),
    ]


def _cuda_status(built_for: str | None, platform_name: str, vendor: str) -> str:
    # torch serves ROCm under the name torch.cuda; what it was built for tells the two apart.
    if built_for is None:
        return f"unavailable: torch {torch.__version__} was built without {platform_name}"
    if not torch.cuda.is_available():
        return f"unavailable: torch has {platform_name} {built_for}, but found no usable {vendor} device or driver"
    devices = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return f"{built_for}: " + ", ".join(f"{d.name} ({_gib(d.total_memory)})" for d in devices)


def _mps_status() -> str:
    if not torch.backends.mps.is_built():
        return f"unavailable: torch {torch.__version__} was built without MPS (Apple silicon has it)"
    return "available" if torch.backends.mps.is_available() else "unavailable: needs Apple silicon and macOS 14+"


def _extras() -> list[Fact]:
    requirements = _requirements(with_extras=True)
    names = metadata.metadata(DISTRIBUTION).get_all("Provides-Extra", []) if requirements else []
    return [Fact("extras", name, _extra_status(name, requirements)) for name in names]


def _extra_status(extra: str, requirements: list[Requirement]) -> str:
    missing = [r.name for r in _expand_extra(extra, requirements) if not _is_satisfied(r)]
    if not missing:
        return "installed"
    return f"missing {', '.join(missing)}: pip install '{DISTRIBUTION}[{extra}]'"


def _expand_extra(extra: str, requirements: list[Requirement]) -> list[Requirement]:
    """Requirements of `extra`, and of the extras of this package that it names."""
    found = []
    for requirement in requirements:
        if requirement.marker is None or not requirement.marker.evaluate({"extra": extra}):
            continue
        if requirement.name == DISTRIBUTION:
            for inner in sorted(requirement.extras):
                found += _expand_extra(inner, requirements)
        else:
            found.append(requirement)
    return found


def _requirements(with_extras: bool = False) -> list[Requirement]:
    """Requirements in the installed package's metadata; empty when it is not installed."""
    try:
        declared = [Requirement(line) for line in metadata.requires(DISTRIBUTION) or []]
    except metadata.PackageNotFoundError:
        return []
    if with_extras:
        return declared
    return [r for r in declared if r.marker is None or r.marker.evaluate({"extra": ""})]


def _is_satisfied(requirement: Requirement) -> bool:
    version = _version(requirement.name)
    return version is not None and requirement.specifier.contains(version, prereleases=True)


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
