"""How near a student's last hidden states are to its teacher's on the texts of tasks, before it is fine-tuned on them.

python experiments/task_errors.py runs/minilm

Squared error over the teacher's variance, of all tokens and of the first alone, which classifiers read.
"""

from __future__ import annotations

import common
import torch
from torch import Tensor
from transformers import PreTrainedModel

from inhibitor_transformers.measure.report import Table, markdown_table
from inhibitor_transformers.models.pretrained import load_pretrained

TEXTS = 256


@torch.no_grad()
def errors(student: PreTrainedModel, teacher: PreTrainedModel, inputs: dict[str, Tensor]) -> tuple[float, float]:
    """Of all tokens, and of the first alone."""
    valid = inputs["attention_mask"].bool()
    ours, theirs = (model(**inputs).last_hidden_state for model in (student.eval(), teacher.eval()))
    return common.relative_error(ours[valid], theirs[valid]), common.relative_error(ours[:, 0], theirs[:, 0])


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("students", nargs="+", help="folders")
    given = parser.parse_args()
    tokenizer, teacher = common.minilm(given.threads)
    inputs = [common.task_inputs(task, given.data, tokenizer, TEXTS) for task in common.TASKS]
    rows = []
    for source in given.students:
        student = load_pretrained(source).base_model
        found = [errors(student, teacher.model, batch) for batch in inputs]
        rows.append([source, *(f"{every:.3f} / {first:.3f}" for every, first in found)])
    print(markdown_table(Table("All tokens / the first", ["", *common.TASKS], rows)))


if __name__ == "__main__":
    main()
