"""How much of what the gradient promises a step of training keeps: students against their softmax control.

python experiments/linearity.py runs/control runs/minilm

Each step moves every weight of a part by `--steps` against the sign of its gradient, as Adam's first step does. The
loss tells random labels apart by a random direction of the first token's last hidden state. Printed are the slope (what
the gradient of all layers promises for a step of one) and of each part the decrease over what its gradient promises, in
per cent: 100 where that still holds at the step's end. Means over batches.
"""

from __future__ import annotations

from statistics import fmean

import common
import torch
from torch import Tensor
from torch.func import functional_call
from transformers import PreTrainedModel

from inhibitor_transformers.cli.options import quiet
from inhibitor_transformers.measure.report import Table, markdown_table
from inhibitor_transformers.models.pretrained import load_pretrained, load_tokenizer

TEXTS, BATCHES = 32, 4


def kept(
    model: PreTrainedModel, inputs: dict[str, Tensor], steps: list[float], seed: int
) -> dict[str, tuple[float, list[float]]]:
    """Per part: the slope, and for each step the decrease of the loss over the one that the slope promises.

    model: an encoder with DistilBERT's names. inputs: `input_ids` and `attention_mask`, (B, N).
    """
    generator = torch.Generator().manual_seed(seed)
    direction = torch.randn(model.config.hidden_size, generator=generator).to(model.dtype)
    labels = torch.randint(0, 2, (len(inputs["input_ids"]),), generator=generator) * 2.0 - 1.0
    weights = dict(model.named_parameters())

    def loss(changed: dict[str, Tensor]) -> Tensor:
        first = functional_call(model, weights | changed, (), inputs).last_hidden_state[:, 0]
        return (labels * (first @ direction)).mean()

    before = loss({})
    gradients = dict(zip(weights, torch.autograd.grad(before, list(weights.values()), allow_unused=True), strict=True))
    found: dict[str, tuple[float, list[float]]] = {}
    with torch.no_grad():
        for part, names in common.PARTS.items():
            moved = {n: g for n, g in gradients.items() if g is not None and any(name in n for name in names)}
            slope = float(sum(g.abs().sum() for g in moved.values()))
            after = (loss({n: weights[n] - step * g.sign() for n, g in moved.items()}) for step in steps)
            shares = [float(before - a) / (step * slope) for step, a in zip(steps, after, strict=True)]
            found[part] = slope, shares
    return found


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("models", nargs="+", help="folders")
    parser.add_argument("--steps", type=float, nargs="+", default=[1e-4, 1e-3])
    parser.add_argument("--task", default="cola", choices=common.TASKS)
    given = parser.parse_args()
    quiet(given.threads)
    rows = []
    for source in given.models:
        model = load_pretrained(source).base_model.eval()
        inputs = common.task_inputs(given.task, given.data, load_tokenizer(source), TEXTS * BATCHES)
        parts = zip(*(tensor.split(TEXTS) for tensor in inputs.values()), strict=True)
        batches = [dict(zip(inputs, part, strict=True)) for part in parts]
        found = [kept(model, batch, given.steps, seed) for seed, batch in enumerate(batches)]
        slope = fmean(f["all layers"][0] for f in found)
        for i, step in enumerate(given.steps):
            shares = (100 * fmean(f[part][1][i] for f in found) for part in common.PARTS)
            rows.append([source, f"{slope:.0f}", f"{step:g}", *(f"{share:.1f}" for share in shares)])
    print(markdown_table(Table("Decrease kept, %", ["", "slope", "step", *common.PARTS], rows)))


if __name__ == "__main__":
    main()
