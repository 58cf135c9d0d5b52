"""What each part of quantisation costs in quality: attention, linear layers, embeddings, apart and together.

python experiments/quantization.py sts-zero-shot runs/minilm runs/control
python experiments/quantization.py sst2 runs/tasks/sst2/student/lr-0.0001/seed-0

Calibrated on texts of WikiText-2 (zero-shot) or on the task's training examples. Softmax models (with the
names of DistilBERT, as `inhibit convert --dot-product` makes them) get the same 8-bit linear layers.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import common
from transformers import PreTrainedModel

from inhibitor_transformers.cli.options import quiet
from inhibitor_transformers.deploy.quantize import quantize, quantize_linears
from inhibitor_transformers.deploy.quantize.texts import Texts, as_batches
from inhibitor_transformers.measure.report import Table, markdown_table
from inhibitor_transformers.measure.similarity import sts_spearman
from inhibitor_transformers.measure.task_score import score_task
from inhibitor_transformers.models import InhibiDistilBertPreTrainedModel
from inhibitor_transformers.models.pretrained import load_as_saved, load_tokenizer
from inhibitor_transformers.tasks import load_task, load_texts

TEXTS, LENGTH = 128, 128
WAYS: dict[str, dict[str, Any]] = {
    "attention int8": {"bits": 8, "linears": False},
    "attention int16": {"bits": 16, "linears": False},
    "attention and linear layers int8": {"bits": 8},
    "attention int16, linear layers int8": {"bits": 16},
    "embeddings int8 as well": {"bits": 8, "embeddings": True},
}


def variants(model: PreTrainedModel, texts: Texts, tokenizer: Any) -> Iterator[tuple[str, PreTrainedModel]]:
    yield "float32", model
    linear = copy.deepcopy(model)
    quantize_linears(linear, as_batches(texts, tokenizer, max_length=LENGTH))
    yield "linear layers int8", linear
    if isinstance(model, InhibiDistilBertPreTrainedModel):
        for name, settings in WAYS.items():
            yield name, quantize(model, texts, tokenizer, max_length=LENGTH, **settings)


def zero_shot(given: Any) -> tuple[Texts, Callable[[Any, Any], float]]:
    """Texts to calibrate on, and the score."""
    pairs = load_task("stsb", given.data).evaluation["validation"][:]
    texts = load_texts(given.data / "wikitext-2", max_texts=TEXTS, seed=0)
    return texts, lambda model, tokenizer: sts_spearman(model, tokenizer, pairs, max_length=LENGTH)


def of_task(given: Any) -> tuple[Texts, Callable[[Any, Any], float]]:
    data = load_task(given.task, given.data)
    columns = [data.train[:TEXTS][name] for name in data.task.text_columns]
    texts = list(columns[0]) if len(columns) == 1 else list(zip(*columns, strict=True))

    def score(model: Any, tokenizer: Any) -> float:
        scores = next(iter(score_task(model, tokenizer, data, max_length=LENGTH).values()))
        return next(iter(scores.values()))

    return texts, score


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("task", help="sts-zero-shot, or a task of `inhibit finetune`")
    parser.add_argument("models", nargs="+", help="folders")
    given = parser.parse_args()
    quiet(given.threads)
    texts, score = (zero_shot if given.task == "sts-zero-shot" else of_task)(given)
    rows = []
    for source in given.models:
        model, tokenizer = load_as_saved(source), load_tokenizer(source)
        for name, variant in variants(model, texts, tokenizer):
            rows.append([source, name, f"{100 * score(variant, tokenizer):.2f}"])
    print(markdown_table(Table(f"{given.task}, ×100", ["model", "", "score"], rows)))


if __name__ == "__main__":
    main()
