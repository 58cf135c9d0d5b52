"""How students follow a change of weights, part by part: that of fine-tuning, and a random one.

python experiments/following.py runs/minilm … --base runs/control --tuned FOLDER --task cola

FOLDER holds `--base` fine-tuned on the task (`inhibit finetune`). The same change is added to the base's and to the
student's weights. First table, of the last hidden states on the task's texts: how far the base moves, over the
variance of its states; the squared error of the student's change over the base's, of all tokens and of the first (0
where it follows, 1 where it does not move); and the square of its change over the base's. Second table, attention
alone: each layer is fed the states of the base and those of the fine-tuned model, and the contexts' changes compared.
"""

from __future__ import annotations

from collections.abc import Sequence

import common
import torch
from torch import Tensor
from torch.func import functional_call
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from inhibitor_transformers.cli.options import quiet
from inhibitor_transformers.distill.teacher import Teacher
from inhibitor_transformers.measure.report import Table, markdown_table
from inhibitor_transformers.models import InhibiDistilBertModel
from inhibitor_transformers.models.contexts import output_projections, record_contexts
from inhibitor_transformers.models.pretrained import load_pretrained, load_tokenizer

TEXTS = 128  # of the task's validation split
RANDOM = 0.01  # standard deviation of a random change over that of the matrix's entries

Weights = dict[str, Tensor]


def compared(wanted: Tensor, got: Tensor) -> tuple[float, float]:
    """Σ|got − wanted|² and Σ|got|², over Σ|wanted|²; both (M, D)."""
    whole = wanted.square().sum()
    return float((got - wanted).square().sum() / whole), float(got.square().sum() / whole)


def changes(base: PreTrainedModel, tuned: PreTrainedModel) -> dict[str, Weights]:
    """What is added to which of the encoders' weights: fine-tuning's change, part by part, and a random one."""
    before, after = base.state_dict(), tuned.state_dict()
    found = {
        part: {name: after[name] - before[name] for name in before if any(kind in name for kind in kinds)}
        for part, kinds in common.PARTS.items()
    }
    generator = torch.Generator().manual_seed(0)
    found["all layers, at random"] = {
        name: RANDOM * before[name].std() * torch.randn(before[name].shape, generator=generator)
        for name in found["all layers"]
        if before[name].dim() == 2
    }
    return found


@torch.no_grad()
def response(model: PreTrainedModel, change: Weights, inputs: dict[str, Tensor]) -> Tensor:
    """(B, N, D): by how much the last hidden states move when `change` is added to the weights."""
    weights = dict(model.named_parameters())
    added = {name: weights[name] + amount for name, amount in change.items()}
    after = functional_call(model, added, (), inputs).last_hidden_state
    return after - model(**inputs).last_hidden_state


@torch.no_grad()
def contexts(model: PreTrainedModel, hidden: Sequence[Tensor], valid: Tensor) -> list[Tensor]:
    """Each layer's context, (M, D) of the valid tokens, fed the states of `hidden`, one (B, N, D) for each layer."""
    mask = valid
    if not isinstance(model, InhibiDistilBertModel):
        mask = valid[:, None, None, :].expand(-1, 1, valid.shape[1], -1)
    with record_contexts(output_projections(model)) as found:
        for block, states in zip(model.transformer.layer, hidden, strict=False):
            block.attention(states, attention_mask=mask)
    return [context[valid] for context in found]


def of_hidden_states(
    base: PreTrainedModel, tuned: PreTrainedModel, students: dict[str, PreTrainedModel], inputs: dict[str, Tensor]
) -> Table:
    """How far the base moves under each change, and how the students follow."""
    valid, rows = inputs["attention_mask"].bool(), []
    variation = common.variation(Teacher(base)(inputs, hidden=True).hidden[-1][valid])
    for part, change in changes(base, tuned).items():
        wanted = response(base, change, inputs)
        row = [part, f"{float(wanted[valid].square().sum() / variation):.4f}"]
        for student in students.values():
            got = response(student, change, inputs)
            missed, size = compared(wanted[valid], got[valid])
            row += [f"{missed:.3f} / {compared(wanted[:, 0], got[:, 0])[0]:.3f}", f"{size:.2f}"]
        rows.append(row)
    columns = [column for source in students for column in (f"{source}: missed, all / first", "moved")]
    return Table("Last hidden states", ["", "base moved", *columns], rows)


def of_attention(
    base: PreTrainedModel, tuned: PreTrainedModel, students: dict[str, PreTrainedModel], inputs: dict[str, Tensor]
) -> Table:
    """How the students' contexts follow when the states below are no longer the base's but the fine-tuned model's."""
    valid = inputs["attention_mask"].bool()
    states = [Teacher(model)(inputs, hidden=True).hidden for model in (base, tuned)]
    moved = {
        name: [after - before for before, after in zip(*(contexts(model, s, valid) for s in states), strict=True)]
        for name, model in ({"base": base} | students).items()
    }
    rows = []
    for layer, wanted in enumerate(moved["base"]):
        found = [compared(wanted, moved[source][layer]) for source in students]
        rows.append([f"layer {layer}", *(f"{value:.3f}" for pair in found for value in pair)])
    columns = [column for source in students for column in (f"{source}: missed", "moved")]
    return Table("Contexts, fed the base's states and the fine-tuned model's", ["", *columns], rows)


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("students", nargs="+", help="folders")
    for name in ("--base", "--tuned", "--task"):
        parser.add_argument(name, required=True)
    given = parser.parse_args()
    quiet(given.threads)
    inputs = common.task_inputs(given.task, given.data, load_tokenizer(given.tuned), TEXTS)
    base = load_pretrained(given.base).base_model.eval()
    tuned = load_pretrained(given.tuned, AutoModelForSequenceClassification).base_model.eval()
    students = {source: load_pretrained(source).base_model.eval() for source in given.students}
    print(markdown_table(of_hidden_states(base, tuned, students, inputs)))
    print(markdown_table(of_attention(base, tuned, students, inputs)))


if __name__ == "__main__":
    main()
