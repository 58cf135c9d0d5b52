"""What the scores should be centred on: their row's mean, its minimum, or nothing. Two layers of `minilm`, 64 tokens.

python experiments/centre.py --steps 300

Each layer is calibrated (γ and δ by grid, η by least squares, per head), then q, k, v and the scalars are trained on
the teacher's contexts; printed are the relative errors on texts that were held out. In plain torch, because the engines
know no minimum.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import common
import torch
from common import inner, split_heads
from torch import Tensor, nn
from torch.nn import functional as F

from inhibitor_transformers.distill.calibrate import DELTA_GRID, GAMMA_GRID
from inhibitor_transformers.distill.data import exact_windows, pad_windows
from inhibitor_transformers.distill.teacher import Signals, Teacher
from inhibitor_transformers.measure.report import Table, markdown_table
from inhibitor_transformers.tasks import load_texts, split_held_out

LENGTH, ROWS = 64, 8
CENTRES = {
    "mean": lambda s: s - s.mean(-1, keepdim=True),
    "minimum": lambda s: s - s.amin(-1, keepdim=True),
    "none": lambda s: s,
}


class Attention(nn.Module):
    """Signed inhibitor attention of one layer, centred in one of three ways; n = n₀, so that ρ has no part in it."""

    def __init__(self, teacher: Any, centre: str) -> None:
        super().__init__()
        self.linears = nn.ModuleList(copy.deepcopy(m) for m in (teacher.query, teacher.key, teacher.value))
        self.requires_grad_(True)  # the teacher's are frozen
        self.heads, self.centre = teacher.num_attention_heads, CENTRES[centre]
        self.gamma, self.delta, self.eta = (nn.Parameter(torch.ones(self.heads)) for _ in range(3))

    def forward(self, hidden: Tensor) -> Tensor:
        q, k, v = (split_heads(linear(hidden), self.heads) for linear in self.linears)
        scores = self.gamma.view(-1, 1, 1) * torch.cdist(q, k, p=1.0) / q.shape[-1] ** 0.5
        z = F.relu(self.centre(scores) + self.delta.view(-1, 1, 1)).unsqueeze(-1)
        v = v.unsqueeze(2)  # (B, H, 1, N, D)
        kept = (v - torch.minimum(torch.maximum(v, -z), z)).sum(3)
        return self.eta.view(-1, 1, 1) * kept

    @torch.no_grad()
    def calibrate(self, hidden: Tensor, target: Tensor) -> None:
        """Scalars of every head by grid and least squares, in the units of `inhibit`'s calibration."""
        q, k, v = (split_heads(linear(hidden), self.heads) for linear in self.linears)
        scores = torch.cdist(q, k, p=1.0) / q.shape[-1] ** 0.5
        unit_v = v.abs().mean((0, 2, 3))
        unit_s = (scores - scores.mean(-1, keepdim=True)).abs().mean((0, 2, 3))
        best, found = torch.full((self.heads,), torch.inf), torch.ones(3, self.heads)
        for g in GAMMA_GRID:
            for d in DELTA_GRID:
                self.gamma.copy_(g * unit_v / unit_s)
                self.delta.copy_(d * unit_v)
                self.eta.fill_(1.0)
                ours = self(hidden)
                eta = inner(ours, target) / inner(ours, ours).clamp_min(1e-12)
                error = inner(eta.view(-1, 1, 1) * ours - target, eta.view(-1, 1, 1) * ours - target)
                better = error < best
                best = torch.where(better, error, best)
                found = torch.where(better, torch.stack([self.gamma, self.delta, eta]), found)
        for parameter, value in zip((self.gamma, self.delta, self.eta), found, strict=True):
            parameter.copy_(value)


def signals(teacher: Teacher, tokenizer: Any, texts: list[str], count: int) -> Iterator[Signals]:
    windows = exact_windows(texts, tokenizer, LENGTH, count * ROWS)
    for start in range(0, len(windows), ROWS):
        yield teacher(pad_windows(windows[start : start + ROWS], tokenizer), contexts=True, hidden=True)


def relative_error(attention: Attention, batches: list[Signals], layer: int) -> float:
    with torch.no_grad():
        pairs = [(attention(s.hidden[layer]), split_heads(s.contexts[layer], attention.heads)) for s in batches]
    return float(sum((a - b).square().sum() for a, b in pairs) / sum(b.square().sum() for _, b in pairs))


def train(attention: Attention, batches: Iterator[Signals], layer: int, steps: int) -> None:
    scalars = [attention.gamma, attention.delta, attention.eta]
    groups: list[dict[str, Any]] = [{"params": attention.linears.parameters()}, {"params": scalars, "lr": 5e-3}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for batch in batches:
        target = split_heads(batch.contexts[layer], attention.heads)
        optimizer.zero_grad()
        F.mse_loss(attention(batch.hidden[layer]), target).div(target.square().mean()).backward()
        optimizer.step()
        schedule.step()


def main() -> None:
    parser = common.parser(__doc__, steps=300)
    parser.add_argument("--centres", nargs="+", choices=list(CENTRES), default=list(CENTRES))
    parser.add_argument("--layers", type=int, nargs="+", default=[1, 4])
    given = parser.parse_args()
    tokenizer, teacher = common.minilm(given.threads)
    texts, held_out = split_held_out(load_texts(given.data / "imdb", max_texts=4000, seed=0))
    unseen = list(signals(teacher, tokenizer, held_out, 8))
    rows = []
    for layer in given.layers:
        for centre in given.centres:
            attention = Attention(teacher.model.encoder.layer[layer].attention.self, centre)
            first = next(signals(teacher, tokenizer, texts, 1))
            attention.calibrate(first.hidden[layer], split_heads(first.contexts[layer], attention.heads))
            before = relative_error(attention, unseen, layer)
            train(attention, signals(teacher, tokenizer, texts, given.steps), layer, given.steps)
            after = relative_error(attention, unseen, layer)
            rows.append([f"layer {layer}, {centre}", f"{before:.3f}", f"{after:.3f}"])
    print(
        markdown_table(
            Table(f"Relative error of the contexts, {given.steps} steps", ["", "calibrated", "trained"], rows)
        )
    )


if __name__ == "__main__":
    main()
