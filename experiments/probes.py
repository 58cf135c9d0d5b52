"""What a linear classifier reads from frozen hidden states of teacher and student: what is lost before fine-tuning?

python experiments/probes.py runs/minilm

First token and mean over the tokens, of the middle and the last layer, standardised; logistic regression on the first
`TRAINED` training examples, scored on validation. Fine-tuning, and with it all that training does, is left out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import common
import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from transformers import PreTrainedModel

from inhibitor_transformers.distill.scales import first_tokens, text_means
from inhibitor_transformers.measure.report import Table, markdown_table
from inhibitor_transformers.models.pretrained import load_pretrained
from inhibitor_transformers.tasks import compute_metrics, load_task

TASKS = ("cola", "sst2")
TRAINED = 6400
STRENGTHS = (0.003, 0.03)  # inverse regularisation
_BATCH = 64


@torch.no_grad()
def features(model: PreTrainedModel, tokenizer: Any, texts: list[str]) -> np.ndarray:
    """(texts, 4·dim): first token and mean of the middle layer, then of the last."""
    rows: list[Tensor] = []
    for start in range(0, len(texts), _BATCH):
        inputs = tokenizer(
            texts[start : start + _BATCH], padding=True, truncation=True, max_length=128, return_tensors="pt"
        )
        inputs = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        hidden = model(**inputs, output_hidden_states=True).hidden_states
        valid = inputs["attention_mask"].bool()
        chosen = (hidden[len(hidden) // 2], hidden[-1])
        rows.append(torch.cat([f(h, valid)[:, 0] for h in chosen for f in (first_tokens, text_means)], dim=1))
    return torch.cat(rows).numpy()


def scores(model: PreTrainedModel, tokenizer: Any, task_name: str, data: Path) -> list[float]:
    """The task's main metric for each of `STRENGTHS`."""
    loaded = load_task(task_name, data)
    splits = (loaded.train[:TRAINED], loaded.evaluation["validation"][:])
    (column,) = loaded.task.text_columns
    inputs = [features(model, tokenizer, examples[column]) for examples in splits]
    labels = [np.asarray(examples[loaded.task.label_column]) for examples in splits]
    found = []
    for strength in STRENGTHS:
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=300))
        probe.fit(inputs[0], labels[0])
        found.append(compute_metrics(loaded.task, probe.predict_log_proba(inputs[1]), labels[1]))
    return [metrics[loaded.task.main_metric] for metrics in found]


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("students", nargs="+", help="folders")
    given = parser.parse_args()
    tokenizer, teacher = common.minilm(given.threads)
    models = {"teacher": teacher.model} | {name: load_pretrained(name).base_model for name in given.students}
    rows = []
    for name, model in models.items():
        found = [scores(model.eval(), tokenizer, task, given.data) for task in TASKS]
        rows.append([name, *(" / ".join(f"{100 * value:.1f}" for value in values) for values in found)])
    print(markdown_table(Table(f"Linear probes, C = {' / '.join(map(str, STRENGTHS))}", ["", *TASKS], rows)))


if __name__ == "__main__":
    main()
