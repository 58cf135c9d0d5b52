"""The instruction sets that the kernels find by CPUID are those that the operating system reports."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from inhibitor_transformers.attention.cpu import library

if library.unavailable():
    pytest.skip(f"engine cpu: {library.unavailable()}", allow_module_level=True)

NEEDED = {"avx512": {"avx512f", "avx512dq", "avx512bw", "avx512vl"}, "avx2": {"avx2", "fma"}}


@pytest.fixture
def flags() -> set[str]:
    """Of the first processor."""
    try:
        found = re.search(r"^flags\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    if found is None:
        pytest.skip("no flags of an x86 processor in /proc/cpuinfo")
    return set(found[1].split())


def test_instruction_sets(flags: set[str]) -> None:
    assert library.load().isas == [isa for isa, needed in NEEDED.items() if needed <= flags] + ["portable"]


def test_integers(flags: set[str]) -> None:
    kernels = library.load()
    if kernels.isas[0] != "avx512":
        pytest.skip("no AVX-512")
    before = kernels.isa
    kernels.use_isa("avx512")
    try:
        assert kernels.integer_isa == ("avx512vnni" if "avx512_vnni" in flags else "avx2")
    finally:
        kernels.use_isa(before)
