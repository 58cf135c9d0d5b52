"""Compiles the Triton kernels without a GPU and counts what the compiler made of them:

    python benchmarks/triton_code.py [--capability 90] [--dims 32 64 128 256] [--dtype bf16] [--output FILE]
    python benchmarks/triton_code.py --targets      compile for every kind of GPU, and every variant

For every kernel and head dimension: registers, bytes spilled, and for each innermost loop the instructions for an
element (one feature of one query and key), of them arithmetic and loads, and the slots that they need at least: a
scheduler issues one instruction of a warp per cycle; comparisons, minima and maxima run on a pipe of half the width.
Packed comparisons (HSETP2: two bfloat16 at once) count as they are, half an instruction for an element.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.pop("TRITON_INTERPRET", None)  # interpreted kernels cannot be compiled

import triton
from report import Report
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from inhibitor_transformers.attention.triton.backward import bwd_dkdv_kernel, bwd_dq_kernel
from inhibitor_transformers.attention.triton.bias import bwd_dbias_kernel
from inhibitor_transformers.attention.triton.forward import forward_kernel
from inhibitor_transformers.attention.triton.tile_config import TileConfig, default, dim_block
from inhibitor_transformers.attention.triton.tiles import UNROLL

KERNELS = {
    "forward": forward_kernel,
    "bwd_dq": bwd_dq_kernel,
    "bwd_dkdv": bwd_dkdv_kernel,
    "bwd_dbias": bwd_dbias_kernel,
}
LOOPS = {
    "forward": ("distances", "shrunk sums"),
    "bwd_dq": ("distances", "gradients of scores", "gradients of queries"),
    "bwd_dkdv": ("distances", "gradients of scores", "gradients of values", "gradients of keys"),
    "bwd_dbias": ("distances", "gradients of scores"),
}
HALF_RATE = ("FMNMX", "FSETP", "HSETP2")
FULL_RATE = ("FADD", "FFMA", "FMUL")
POINTERS = {
    **dict.fromkeys(("query", "key", "value", "out", "grad", "grad_query", "grad_key", "grad_value"), "input"),
    **dict.fromkeys(("gamma", "eta", "delta", "length_exponent", "saved", "scratch"), "*fp32"),
    **dict.fromkeys(("grad_means", "grad_scalars", "grad_bias"), "*fp32"),
}
OPTIONAL = {"key_mask": "*u8", "attn_mask": "*u8"}
OPTIONAL |= dict.fromkeys(("score_bias", "key_norm", "unit", "grad_key_norm"), "*fp32")
NORMALIZED = ("key_norm", "unit", "grad_key_norm")  # those of a converted model
RANKS = {"key_mask_strides": 2, "score_bias_strides": 3}
HEADER = ["kernel", "head", "tile", "warps", "registers", "spilled bytes"]
HEADER += ["loop", "instructions", "arithmetic", "loads", "slots at least", "of all instructions"]


@dataclass(frozen=True)
class Loop:
    """Instructions for an element in one innermost loop."""

    all: float
    full_rate: float
    half_rate: float
    loads: float

    @property
    def slots(self) -> float:
        """Issue slots that the arithmetic needs: one each, but two for every one on the half-rate pipe."""
        return max(self.full_rate + self.half_rate, 2 * self.half_rate)


@dataclass(frozen=True)
class Code:
    registers: int
    spilled: int
    loops: list[Loop]


def compiled(
    name: str,
    dim: int,
    dtype: str,
    config: TileConfig,
    target: GPUTarget,
    present: tuple[str, ...] = ("key_mask",),
    **flags: Any,
) -> Any:
    """The kernel for contiguous inputs, signed, centered, with cached distances; `flags` override.

    present: those of OPTIONAL that the call has.
    """
    kernel = KERNELS[name]
    constants = {"DIM": dim, "VALUE_DIM": dim, "DIM_BLOCK": dim_block(dim), "VALUE_BLOCK": dim_block(dim)}
    constants |= {"ROWS": config.rows, "KEYS": config.columns, "QUERIES": config.columns, "LANES": config.lanes}
    constants |= {"IS_CAUSAL": False, "IS_SIGNED": True, "CENTER": "mean", "CACHED": True} | flags
    signature: dict[str, Any] = {}
    given: dict[tuple[int, ...], Any] = {}
    aligned: dict[tuple[int, ...], Any] = {}
    for i, argument in enumerate(kernel.arg_names):
        optional = argument.removesuffix("_strides")
        absent = optional in OPTIONAL and optional not in present
        if argument in constants or absent:
            signature[argument], given[i,] = "constexpr", constants.get(argument)
        elif argument.endswith("strides"):
            rank = RANKS.get(argument, 4)
            signature[argument], given[i, rank - 1] = (*("i32",) * (rank - 1), "constexpr"), 1
            aligned |= {(i, j): [["tt.divisibility", 16]] for j in range(rank - 1)}
        elif argument in POINTERS or argument in OPTIONAL:
            pointer = (POINTERS | OPTIONAL)[argument]
            signature[argument] = f"*{dtype}" if pointer == "input" else pointer
            aligned[i,] = [["tt.divisibility", 16]]
        else:
            signature[argument] = "fp32" if argument == "log_length_reference" else "i32"
    source = ASTSource(kernel, signature, given, aligned)
    return triton.compile(source, target=target, options={"num_warps": config.warps, "enable_fp_fusion": True})


def examine(name: str, dim: int, dtype: str, config: TileConfig, capability: int) -> Code:
    """Registers, spills and loops of the machine code."""
    kernel = compiled(name, dim, dtype, config, GPUTarget("cuda", capability, 32))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.cubin"
        file.write_bytes(kernel.asm["cubin"])
        text, usage = (_cuobjdump(option, file) for option in ("-sass", "-res-usage"))
    elements = config.rows * config.columns // (32 * config.warps)
    return Code(
        registers=int(re.findall(r"REG:(\d+)", usage)[0]),
        spilled=int(re.findall(r"STACK:(\d+)", usage)[0]) + int(re.findall(r"LOCAL:(\d+)", usage)[0]),
        loops=list(_loops(text, name, dim, config, elements)),
    )


def _loops(text: str, name: str, dim: int, config: TileConfig, pairs: int) -> list[Loop]:
    """The unrolled innermost loops that work on elements, in the order of the code."""
    pattern = r"^\s+/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\d+\s+)?(\S+)(.*?);"
    code = [(int(at, 16), name, rest) for at, name, rest in re.findall(pattern, text, re.M)]
    ends = {
        at: int(to.group(1), 16) for at, op, rest in code if op == "BRA" and (to := re.search(r"0x([0-9a-f]+)", rest))
    }
    backward = [(to, at) for at, to in ends.items() if to < at]
    found = []
    for first, last in sorted(backward):
        if any(first <= a and b < last for a, b in backward if (a, b) != (first, last)):
            continue  # not innermost
        counts = Counter(op.split(".")[0] for at, op, _ in code if first <= at <= last)
        full, half = (sum(counts[op] for op in ops) for ops in (FULL_RATE, HALF_RATE))
        feature_tile = dim_block(dim) * config.rows // (32 * config.warps)
        steps = pairs if len(found) in _PAIR_LOOPS[name] else feature_tile
        steps *= UNROLL.value
        if full + half >= 2 * steps:
            found.append(Loop(sum(counts.values()) / steps, full / steps, half / steps, counts["LDG"] / steps))
    return found


# The loops whose tile is of pairs, not of features.
_PAIR_LOOPS = {"forward": (0,), "bwd_dq": (0, 1), "bwd_dkdv": (0, 1), "bwd_dbias": (0, 1)}


def _cuobjdump(option: str, file: Path) -> str:
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    return subprocess.run([tool, option, file], check=True, capture_output=True, text=True).stdout


TARGETS = (
    *(GPUTarget("cuda", capability, 32) for capability in (80, 90, 100)),
    GPUTarget("hip", "gfx942", 64),
    GPUTarget("hip", "gfx1100", 32),
)


# What the other rows do not show: every branch of the kernels has to compile, which the interpreter does not see.
VARIANTS: dict[str, dict[str, Any]] = {
    "unmasked": {"present": ()},
    "attention mask": {"present": ("key_mask", "attn_mask")},
    "causal, attention mask, unsigned": {"present": ("attn_mask",), "IS_CAUSAL": True, "IS_SIGNED": False},
    "causal, not cached": {"present": (), "IS_CAUSAL": True, "CACHED": False},
    "bias": {"present": ("score_bias",)},
    "bias, causal, not cached": {"present": ("key_mask", "score_bias"), "IS_CAUSAL": True, "CACHED": False},
    "unsigned, not centered": {"IS_SIGNED": False, "CENTER": "none"},
    "not cached": {"CACHED": False},
    "least, key norm, unit": {"CENTER": "min", "present": ("key_mask", *NORMALIZED)},
    "least, bias, key norm, unit, causal, not cached": {
        "CENTER": "min",
        "present": ("score_bias", *NORMALIZED),
        "IS_CAUSAL": True,
        "CACHED": False,
    },
}


def report_variants(report: Report) -> None:
    report.header(["variant, compute capability 9.0", *(f"{name} bytes" for name in KERNELS)])
    for title, options in VARIANTS.items():
        target = GPUTarget("cuda", 90, 32)
        sizes = [len(compiled(n, 64, "fp32", default(n, 64), target, **options).asm["cubin"]) for n in KERNELS]
        report.row([title, *map(str, sizes)])


def report_targets(report: Report, dtype: str) -> None:
    report.header(["target", *(f"{name} bytes" for name in KERNELS)])
    for target in TARGETS:
        binary = "cubin" if target.backend == "cuda" else "hsaco"
        sizes = [len(compiled(n, 64, dtype, default(n, 64), target).asm[binary]) for n in KERNELS]
        arch = target.arch / 10 if target.backend == "cuda" else target.arch
        report.row([f"{target.backend} {arch}", *map(str, sizes)])


def report_loops(report: Report, dims: list[int], dtype: str, capability: int) -> None:
    report.line(f"Compute capability {capability / 10}, {dtype}.")
    report.header(HEADER)
    for name in KERNELS:
        for dim in dims:
            config = default(name, dim)
            code = examine(name, dim, dtype, config, capability)
            cells = [name, str(dim), f"{config.rows}×{config.columns}", str(config.warps)]
            cells += [str(code.registers), str(code.spilled)]
            for title, loop in zip(LOOPS[name], code.loops, strict=True):
                numbers = (loop.all, loop.full_rate + loop.half_rate, loop.loads, loop.slots)
                report.row([*cells, title, *(f"{n:.2f}" for n in numbers), f"{loop.slots / loop.all:.0%}"])
                cells = [""] * len(cells)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", action="store_true", help="compile for every kind of GPU, and variants, instead")
    parser.add_argument("--capability", type=int, default=90, help="of the NVIDIA GPU: 80, 90, …")
    parser.add_argument("--dims", type=int, nargs="+", default=[32, 64, 128, 256])
    parser.add_argument("--dtype", choices=["bf16", "fp16", "fp32"], default="bf16")
    parser.add_argument("--output", type=Path, help="a new file for the Markdown")
    options = parser.parse_args(arguments)
    report = Report(options.output)
    report.line(f"Triton {triton.__version__}.")
    if options.targets:
        report_targets(report, options.dtype)
        report_variants(report)
    else:
        report_loops(report, options.dims, options.dtype, options.capability)


if __name__ == "__main__":
    main()
