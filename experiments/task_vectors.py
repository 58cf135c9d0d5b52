"""What a student knows of a task before it is trained, by what it takes over of its teacher's fine-tuning.

python experiments/task_vectors.py STUDENT --base runs/control --tuned FOLDER --task sst2 --data runs/larger-validation

FOLDER holds `--base` fine-tuned on the task (`inhibit finetune`). Rows: the teacher; the student with its whole task
vector; without that of queries and keys; without that of all attention; with the head alone. Then how far alignment
and fine-tuning have moved the weights of each kind, over their length in `--base`; and how far fine-tuning moves the
teacher's last hidden states on the task's texts, and the student's errors before and after (squared, over the variance;
how the student follows, part by part: following.py).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import common
import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from inhibitor_transformers.cli.options import quiet
from inhibitor_transformers.distill.finetune import load_for_task
from inhibitor_transformers.measure.report import Table, markdown_table
from inhibitor_transformers.measure.task_score import score_task
from inhibitor_transformers.models import add_task_vector
from inhibitor_transformers.models.pretrained import load_pretrained, load_tokenizer
from inhibitor_transformers.tasks import TaskData, load_task

TEXTS = 128  # of the task's validation split, whose hidden states are compared

# Which of the encoder's weights stay as they were.
KEPT: dict[str, Callable[[str], bool]] = {
    "all of it": lambda name: False,
    "but queries and keys": lambda name: "q_lin" in name or "k_lin" in name,
    "but attention": lambda name: ".attention." in name,
    "the head alone": lambda name: True,
}


def started(source: str, data: TaskData, tuned: PreTrainedModel, base: PreTrainedModel, kept: str) -> PreTrainedModel:
    """The student with that part of the task vector."""
    student = load_for_task(source, data.task)
    before: dict[str, Tensor] = {name: tensor.clone() for name, tensor in student.base_model.state_dict().items()}
    add_task_vector(student, tuned, base)
    student.base_model.load_state_dict({n: t for n, t in before.items() if KEPT[kept](n)}, strict=False)
    return student.eval()


KINDS = ("embeddings", "q_lin", "k_lin", "v_lin", "out_lin", "ffn", "layer_norm")


def distance(model: PreTrainedModel, base: PreTrainedModel, kind: str) -> float:
    """Length of the difference of all weights of a kind over that of the base's."""
    ours, theirs = model.base_model.state_dict(), base.base_model.state_dict()
    names = [name for name in theirs if kind in name]
    moved = sum(float((ours[name] - theirs[name]).square().sum()) for name in names)
    return (moved / sum(float(theirs[name].square().sum()) for name in names)) ** 0.5


@torch.no_grad()
def errors(models: dict[str, PreTrainedModel], given: argparse.Namespace) -> list[list[str]]:
    """Errors of pairs of encoders on the task's texts, of all tokens and of the first alone."""
    inputs = common.task_inputs(given.task, given.data, load_tokenizer(given.tuned), TEXTS)
    valid = inputs["attention_mask"].bool()
    hidden = {name: model.base_model.eval()(**inputs).last_hidden_state for name, model in models.items()}
    rows = []
    for ours, theirs in (("tuned", "base"), ("student", "base"), ("student with the vector", "tuned")):
        every = common.relative_error(hidden[ours][valid], hidden[theirs][valid])
        first = common.relative_error(hidden[ours][:, 0], hidden[theirs][:, 0])
        rows.append([f"{ours} from {theirs}", f"{every:.3f}", f"{first:.3f}"])
    return rows


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("student", help="folder")
    for name in ("--base", "--tuned", "--task"):
        parser.add_argument(name, required=True)
    given = parser.parse_args()
    quiet(given.threads)
    data = load_task(given.task, given.data)
    base, tuned = load_pretrained(given.base), load_pretrained(given.tuned, AutoModelForSequenceClassification)
    tokenizer = load_tokenizer(given.tuned)
    models = {"teacher": tuned} | {kept: started(given.student, data, tuned, base, kept) for kept in KEPT}
    rows = []
    for name, model in models.items():
        scores = score_task(model, tokenizer, data, max_length=128)["validation"]
        rows.append([name, f"{scores[data.task.main_metric]:.4f}"])
    print(markdown_table(Table(f"{given.task}, {data.task.main_metric}", ["", "score"], rows)))
    student = load_pretrained(given.student)
    moved = {"alignment": student, "fine-tuning": tuned}
    far = [[name, *(f"{distance(model, base, kind):.3f}" for kind in KINDS)] for name, model in moved.items()]
    print(markdown_table(Table("Moved by", ["", *KINDS], far)))
    encoders = {"base": base, "tuned": tuned, "student": student, "student with the vector": models["all of it"]}
    print(markdown_table(Table("Last hidden states", ["", "all tokens", "first"], errors(encoders, given))))


if __name__ == "__main__":
    main()
