"""What calibration is worth before any training, and whether a layer's heads need scalars of their own.

python experiments/calibration.py

For `minilm`, on texts that were held out: the relative error of the attention outputs (each layer fed the teacher's
input, mean over layers and lengths) and STS-B zero-shot.
"""

from __future__ import annotations

from typing import Any

import common
import torch
from common import inner, split_heads
from torch import Tensor

from inhibitor_transformers.attention import inhibitor_attention
from inhibitor_transformers.distill.data import exact_windows, pad_windows
from inhibitor_transformers.distill.stages.calibration import (
    DELTA_GRID,
    GAMMA_GRID,
    LENGTH_EXPONENT_GRID,
    Grid,
    calibrate,
)
from inhibitor_transformers.distill.teacher.teacher import Teacher
from inhibitor_transformers.evaluation.similarity import sts_spearman
from inhibitor_transformers.models import InhibiDistilBertModel, map_layers
from inhibitor_transformers.models.architectures import attention_layers
from inhibitor_transformers.report import Table, markdown_table
from inhibitor_transformers.tasks import load_task, load_texts, split_held_out

LENGTHS = (16, 32, 64, 128, 256)
SHARED = "the same for all heads of a layer"
Batches = list[dict[str, Tensor]]
ROWS: dict[str, Grid | None] = {
    "the paper's initial values (γ = 1, δ = ½, η = 1, ρ = 0)": None,
    "each head its own": Grid(),
    "each head its own, ρ = 0": Grid(length_exponent=(0.0,)),
    "each head its own, ρ = 1": Grid(length_exponent=(1.0,)),
    "each head its own, every other γ and δ": Grid(GAMMA_GRID[::2], DELTA_GRID[::2]),
    SHARED: Grid(),
}


def calibrate_layers(student: InhibiDistilBertModel, teacher: Teacher, batches: Batches) -> None:
    """As `calibrate`, with one γ, δ, ρ and η for a layer: least mean of its heads' relative errors."""
    teacher_outputs = [teacher(batch, attention_outputs=True, hidden=True) for batch in batches]
    for i, attention in enumerate(attention_layers(student)):
        heads, linears = attention.module.n_heads, (attention.query, attention.key, attention.value)
        inputs = [[split_heads(linear(s.hidden[i]), heads) for linear in linears] for s in teacher_outputs]
        targets = [split_heads(s.attention_outputs[i], heads) for s in teacher_outputs]
        shared = best_of_layer(inputs, targets, attention.scalars.length_reference)
        for name, value in shared.items():
            getattr(attention.scalars, name).fill_(value)


def best_of_layer(inputs: list[list[Tensor]], targets: list[Tensor], reference: float) -> dict[str, float]:
    """The scalars of a layer, from q, k, v and the teacher's attention outputs at each length: (B, H, N, D) each."""
    unit_v = torch.stack([v.abs().mean() for _, _, v in inputs]).mean()
    unit_s = torch.stack([deviation(q, k) for q, k, _ in inputs]).mean()
    best, found = float("inf"), {}
    for g in GAMMA_GRID:
        for d in DELTA_GRID:
            gamma, delta = g * unit_v / unit_s, d * unit_v
            ours = [inhibitor_attention(q, k, v, gamma=gamma, delta=delta) for q, k, v in inputs]
            energy = [inner(t, t) for t in targets]
            uu = [(inner(u, u) / e).mean() for u, e in zip(ours, energy, strict=True)]
            ut = [(inner(u, t) / e).mean() for u, t, e in zip(ours, targets, energy, strict=True)]
            for rho in LENGTH_EXPONENT_GRID:
                factors = [(reference / t.shape[2]) ** rho for t in targets]
                a = sum(f * x for f, x in zip(factors, ut, strict=True))
                b = sum(f * f * x for f, x in zip(factors, uu, strict=True))
                error = float(1 - a * a / b / len(targets))
                if error < best:
                    best = error
                    found = {"gamma": gamma, "delta": delta, "eta": a / b, "length_exponent": rho}
    return {name: float(value) for name, value in found.items()}


def deviation(query: Tensor, key: Tensor) -> Tensor:
    """mean |S − row mean of S| at γ = 1, over all heads: the unit of γ."""
    scores = torch.cdist(query, key, p=1.0) / query.shape[-1] ** 0.5
    return (scores - scores.mean(-1, keepdim=True)).abs().mean()


def attention_error(student: InhibiDistilBertModel, teacher: Teacher, batches: Batches) -> float:
    """Mean over layers, heads and lengths of the relative error: what `calibrate` finds before it changes any."""
    nothing = Grid((1.0,), (0.0,), (0.0,))
    copy = InhibiDistilBertModel(student.config)
    copy.load_state_dict(student.state_dict())
    layer_map = map_layers("all", student.config.n_layers)
    return float(torch.tensor(calibrate(copy, teacher, layer_map, batches, nothing).before).mean())


def batches_of(texts: list[str], tokenizer: Any, tokens: int) -> Batches:
    return [pad_windows(exact_windows(texts, tokenizer, n, tokens // n), tokenizer) for n in LENGTHS]


@torch.no_grad()
def main() -> None:
    given = common.parser(__doc__).parse_args()
    tokenizer, teacher = common.minilm(given.threads)
    sources = [given.data / name for name in ("wikitext-2", "imdb")]
    texts, held_out = split_held_out(load_texts(sources, max_texts=6000, seed=0))
    seen, unseen = batches_of(texts, tokenizer, 1024), batches_of(held_out, tokenizer, 4096)
    pairs = load_task("stsb", given.data).evaluation["validation"][:]
    rows = []
    for name, grid in ROWS.items():
        student = InhibiDistilBertModel.from_teacher(teacher.model, segments="fold").eval()
        if name == SHARED:
            calibrate_layers(student, teacher, seen)
        elif grid is not None:
            calibrate(student, teacher, map_layers("all", student.config.n_layers), seen, grid)
        sts = sts_spearman(student, tokenizer, pairs, max_length=128)
        rows.append([name, f"{attention_error(student, teacher, unseen):.3g}", f"{sts:.4f}"])
    print(markdown_table(Table("Before any training", ["scalars", "attention error", "STS-B"], rows)))


if __name__ == "__main__":
    main()
