"""Name and instruction sets, read from the system's own description."""

from __future__ import annotations

import pytest

from inhibitor_transformers.common import processor

X86 = """processor : 0
model name : Some CPU 9000
flags : fpu sse4_2 avx avx2 fma avx512f avx512_vnni
processor : 1
model name : Another
"""
ARM = """processor : 0
Features : fp asimd asimddp sve
"""


@pytest.fixture
def cpuinfo(tmp_path, monkeypatch):
    path = tmp_path / "cpuinfo"
    monkeypatch.setattr(processor, "CPUINFO", path)
    return path


def test_x86(cpuinfo):
    cpuinfo.write_text(X86)
    assert processor.processor_name() == "Some CPU 9000"
    assert processor.instruction_sets() == ["SSE4.2", "AVX", "AVX2", "FMA", "AVX-512F", "AVX-512-VNNI"]


def test_arm(cpuinfo):
    cpuinfo.write_text(ARM)
    assert processor.instruction_sets() == ["NEON", "NEON-DOTPROD", "SVE"]


def test_a_set_is_not_found_inside_the_name_of_another(cpuinfo):
    cpuinfo.write_text("flags : avx512f")
    assert processor.instruction_sets() == ["AVX-512F"]


def test_without_cpuinfo_nothing_is_guessed(cpuinfo):
    assert processor.instruction_sets() == []
    assert processor.processor_name()


@pytest.mark.parametrize(
    ("flags", "lacks"),
    [("avx avx2 fma", True), ("avx512f avx512_bf16", False), ("avx2 amx_bf16", False), ("asimd bf16", False)],
)
def test_bfloat16_is_one_of_the_sets_listed(flags, lacks, cpuinfo):
    cpuinfo.write_text(f"flags : {flags}")
    assert processor.lacks_bfloat16() == lacks


def test_without_cpuinfo_bfloat16_is_not_said_to_be_lacking(cpuinfo):
    assert not processor.lacks_bfloat16()
