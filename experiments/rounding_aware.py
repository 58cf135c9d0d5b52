"""Whether alignment that sees the rounding helps a student of few bits.

python experiments/rounding_aware.py --bits 4 experiments/rounding.yaml --output runs/brief-4bits --init-from runs/brief
python experiments/rounding_aware.py experiments/rounding.yaml --output runs/brief-control --init-from runs/brief

`inhibit distill`, and while it trains, queries, keys and values of inhibitor attention
are rounded to so many bits (one step per head, from the batch; gradients pass straight through), as integer attention
will round them; without --bits nothing is, which is the control. Then: experiments/integers.py for both students.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from torch import Tensor

from inhibitor_transformers.attention import InhibitorScalars
from inhibitor_transformers.cli.app import app

# Of the range of a batch: about what the search of deploy/quantize chooses.
FRACTION = {3: 0.6, 4: 0.7, 5: 0.8, 6: 0.9, 8: 1.0}


def straight_through(x: Tensor, low: Tensor, step: Tensor, qmax: int) -> Tensor:
    """x rounded to low + 0 … qmax steps; its gradient where it is not clipped."""
    clipped = x.clamp(low, low + step * qmax)
    rounded = ((clipped - low) / step).round() * step + low
    return clipped + (rounded - clipped).detach()


def round_inputs(q: Tensor, k: Tensor, v: Tensor, bits: int) -> tuple[Tensor, Tensor, Tensor]:
    """q, k, v (B, H, N, D), each head with one step for q and k about the middle of each feature, and one for v."""
    qmax, value_qmax = 2**bits - 1, 2 ** (bits - 1) - 1
    both = torch.cat([q, k], 2).detach()
    low, high = both.amin((0, 2), keepdim=True), both.amax((0, 2), keepdim=True)
    width = (high - low).amax(-1, keepdim=True) * FRACTION[bits]
    low = (low + high - width) / 2
    value_step = v.detach().abs().amax((0, 2, 3), keepdim=True) * FRACTION[bits] / value_qmax
    q, k = (straight_through(t, low, width / qmax, qmax) for t in (q, k))
    return q, k, straight_through(v, -value_step * value_qmax, value_step, 2 * value_qmax)


def patch_attention(bits: int) -> None:
    """Make every inhibitor attention of this process round its inputs."""
    exact = InhibitorScalars.forward

    def forward(self: InhibitorScalars, query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Any:
        return exact(self, *round_inputs(query, key, value, bits), **options)

    InhibitorScalars.forward = forward  # type: ignore[method-assign]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config")
    parser.add_argument("--bits", type=int, choices=FRACTION)
    parser.add_argument("--output", required=True)
    parser.add_argument("--init-from", required=True)
    parser.add_argument("--threads", default="1")
    given = parser.parse_args()
    if given.bits:
        patch_attention(given.bits)
    flags = ["--output", given.output, "--init-from", given.init_from, "--threads", given.threads]
    app(["distill", given.config, *flags], prog_name="inhibit")


if __name__ == "__main__":
    main()
