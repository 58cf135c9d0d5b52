"""How much noise dropout makes: in attention a student drops keys, its softmax control drops probabilities.

python experiments/dropout.py runs/control runs/minilm

For texts of the tasks: the squared change of the last hidden states over their variance, of all tokens and of the
first alone, mean over draws; by attention dropout, or with `--everywhere` by all dropout that there is in training, at
the models' own rates.
"""

from __future__ import annotations

import common
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from inhibitor_transformers.cli.options import quiet
from inhibitor_transformers.measure.report import Table, markdown_table
from inhibitor_transformers.models.pretrained import load_pretrained, load_tokenizer

TEXTS, DRAWS = 32, 12


def set_dropout(model: PreTrainedModel, rate: float | None) -> None:
    """Dropout at this rate in every attention of a DistilBERT or InhibiDistilBERT and nowhere else; None: all of it."""
    if rate is None:
        model.train()
        return
    model.eval()
    for block in model.transformer.layer:
        attention = block.attention.train()
        if isinstance(attention.dropout, nn.Dropout):
            attention.dropout.p = rate
        else:
            attention.dropout = rate


@torch.no_grad()
def noise(
    model: PreTrainedModel, inputs: dict[str, Tensor], rate: float | None, draws: int = DRAWS
) -> tuple[float, float]:
    """Of all tokens, and of the first alone."""
    valid = inputs["attention_mask"].bool()
    still = model.eval()(**inputs).last_hidden_state
    set_dropout(model, rate)
    changes = [(model(**inputs).last_hidden_state - still).square() for _ in range(draws)]
    every, first = still[valid], still[:, 0]
    return (
        float(sum(c[valid].sum() for c in changes) / draws / common.variation(every)),
        float(sum(c[:, 0].sum() for c in changes) / draws / common.variation(first)),
    )


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("models", nargs="+", help="folders")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--rates", type=float, nargs="+", default=[0.1])
    which.add_argument("--everywhere", action="store_true")
    given = parser.parse_args()
    rates: list[float | None] = [None] if given.everywhere else given.rates
    quiet(given.threads)
    rows = []
    for source in given.models:
        model, tokenizer = load_pretrained(source).base_model, load_tokenizer(source)
        inputs = [common.task_inputs(task, given.data, tokenizer, TEXTS) for task in common.TASKS]
        for rate in rates:
            torch.manual_seed(0)
            found = [noise(model, batch, rate) for batch in inputs]
            kind = "all" if rate is None else f"{rate:g}"
            rows.append([source, kind, *(f"{every:.3f} / {first:.3f}" for every, first in found)])
    print(markdown_table(Table("All tokens / the first", ["", "rate", *common.TASKS], rows)))


if __name__ == "__main__":
    main()
