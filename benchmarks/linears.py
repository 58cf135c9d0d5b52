"""Times the ways to compute a linear layer with 8-bit weights and inputs that torch has, over float32:

    python benchmarks/linears.py [--rows 64 128 1024] [--seconds 0.5] [--output FILE]

At the sizes of DistilBERT, one thread; `Int8Linear` is what quantized models use, quantizing its input included.
"""

from __future__ import annotations

import argparse
import warnings
from functools import partial
from pathlib import Path

import torch
from agreement import require_close
from report import Report, machine
from timing import Budget, Sides, clock_name, interleave
from torch import Tensor, nn

from inhibitor_transformers.models.quantized import Int8Linear

SIZES = ((768, 768), (768, 3072), (3072, 768))
ROUNDING = 0.05  # what 8 bits (FBGEMM uses 7 of them) of weights and inputs change, relative to the outputs' size
WAYS = ["FBGEMM, scale of the batch", "FBGEMM, fixed scale", "oneDNN, product alone", "Int8Linear"]


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    torch.set_num_threads(1)
    report = Report(options.output)
    report.line(f"\n## Linear layers, 1 thread\n\n{machine()}, {clock_name()}.")
    report.header(["in", "out", "rows", "float32 ms", *WAYS])
    for inputs, outputs in SIZES:
        for rows in options.rows:
            with torch.no_grad():
                ways = sides(nn.Linear(inputs, outputs), torch.randn(rows, inputs))
                for name, way in ways.items():
                    require_close(name, way(), ways["float32"](), ROUNDING)
                times = interleave(ways, Budget(3, options.seconds))
            base = times["float32"].minimum
            speeds = [f"{base / times[way].minimum:.2f}" for way in WAYS]
            report.row([str(inputs), str(outputs), str(rows), f"{base * 1e3:.2f}", *speeds])


def sides(linear: nn.Linear, x: Tensor) -> Sides:
    low, high = float(x.min()), float(x.max())
    ours = Int8Linear.from_linear(linear, low, high)
    quantized, step, zero = ours.quantize_input(x), (high - low) / 255, int(ours.input_zero_point)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # quantized tensors are to be removed from torch
        packed = fbgemm(linear)
    ops = torch.ops.quantized
    return {
        "float32": partial(linear, x),
        WAYS[0]: partial(ops.linear_dynamic, x, packed, True),
        WAYS[1]: partial(ops.linear_with_input_q_dq_qweight_dq_output_fp32, x, step, zero, packed),
        WAYS[2]: partial(ours.product, quantized),
        WAYS[3]: partial(ours, x),
    }


def fbgemm(linear: nn.Linear) -> object:
    """The layer's weights with a scale per output, packed."""
    torch.backends.quantized.engine = "fbgemm"
    weight = linear.weight.detach()
    zeros = torch.zeros(linear.out_features, dtype=torch.long)
    quantized = torch.quantize_per_channel(weight, weight.abs().amax(1) / 127, zeros, 0, torch.qint8)
    return torch.ops.quantized.linear_prepack(quantized, linear.bias.detach())


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[64, 128, 1024])
    parser.add_argument("--seconds", type=float, default=0.5, help="for each row of the table, after 3 rounds")
    parser.add_argument("--output", type=Path, help="a new file for the Markdown")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
