"""Name and instruction sets of the processor."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")

# The sets that attention kernels are written for, by the names that Linux gives them.
_VECTOR_SETS = {
    "sse4_2": "SSE4.2",
    "avx": "AVX",
    "avx2": "AVX2",
    "fma": "FMA",
    "f16c": "F16C",
    "avx_vnni": "AVX-VNNI",
    "avx512f": "AVX-512F",
    "avx512dq": "AVX-512DQ",
    "avx512bw": "AVX-512BW",
    "avx512vl": "AVX-512VL",
    "avx512_vnni": "AVX-512-VNNI",
    "avx512_bf16": "AVX-512-BF16",
    "avx512_fp16": "AVX-512-FP16",
    "amx_int8": "AMX-INT8",
    "amx_bf16": "AMX-BF16",
    "asimd": "NEON",
    "asimddp": "NEON-DOTPROD",
    "i8mm": "I8MM",
    "bf16": "BF16",
    "sve": "SVE",
    "sve2": "SVE2",
}
_BFLOAT16_SETS = {"AVX-512-BF16", "AMX-BF16", "BF16"}


def processor_name() -> str:
    """Model name of the processor, e.g. "AMD EPYC 9654"; else the architecture, e.g. "aarch64"."""
    return _cpuinfo("model name") or _apple_name() or platform.processor() or platform.machine() or "unknown"


def instruction_sets() -> list[str]:
    """Vector instruction sets of this processor; empty where the system does not list them (only Linux does)."""
    flags = set((_cpuinfo("flags") or _cpuinfo("Features")).split())
    return [name for flag, name in _VECTOR_SETS.items() if flag in flags]


def lacks_bfloat16() -> bool:
    """Whether this processor lists its instruction sets and none of them multiplies matrices of bfloat16."""
    listed = set(instruction_sets())
    return bool(listed) and not listed & _BFLOAT16_SETS


def _cpuinfo(key: str) -> str:
    """The first value of `key` in /proc/cpuinfo, "" where there is none."""
    try:
        lines = CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    pairs = (line.partition(":") for line in lines)
    return next((value.strip() for name, _, value in pairs if name.strip() == key), "")


def _apple_name() -> str:
    if platform.system() != "Darwin":
        return ""
    command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
