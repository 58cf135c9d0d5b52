"""What fewer bits in attention cost a model: against itself in float.

python experiments/integers.py runs/brief
python experiments/integers.py runs/brief-sst2 --task sst2 --bits 8 4

Quantized on 128 texts (of the task, or WikiText-2), attention alone and with 8-bit linear layers. Encoders: STS-B
zero-shot, and the mean cosine to the float model's embeddings of IMDB reviews of 128 and 512 tokens. With --task:
the scores of a model with a head on the validation split.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import common
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from inhibitor_transformers.attention.integer.qparams import BITS
from inhibitor_transformers.cli.options import quiet
from inhibitor_transformers.deploy.quantize import quantize
from inhibitor_transformers.evaluation.similarity import agreement, sts_spearman
from inhibitor_transformers.evaluation.task_score import score_task
from inhibitor_transformers.models.architectures import attention_layers
from inhibitor_transformers.models.pretrained import load_as_saved, load_tokenizer
from inhibitor_transformers.report import Table, markdown_table
from inhibitor_transformers.tasks import load_task, load_texts

LENGTHS = (128, 512)
CALIBRATION_TEXTS = 128


class Encoder:
    """How near the embeddings of a quantized encoder stay, and what they are worth."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, data: Path) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.pairs = load_task("stsb", data).evaluation["validation"][:]
        self.reviews = load_texts([data / "imdb"], max_texts=1000, seed=0)
        self.texts: Any = load_texts([data / "wikitext-2"], max_texts=CALIBRATION_TEXTS, seed=0)
        self.columns = ["STS-B", *(f"cosine at {n}" for n in LENGTHS)]

    def scores(self, model: PreTrainedModel) -> list[str]:
        near = agreement(model, self.model, self.tokenizer, self.reviews, LENGTHS)
        sts = sts_spearman(model, self.tokenizer, self.pairs, max_length=128)
        return [f"{100 * sts:.2f}", *(f"{near[n]:.5f}" for n in LENGTHS)]


class Classifier:
    """A task's scores."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, data: Path, task: str) -> None:
        self.tokenizer, self.data = tokenizer, load_task(task, data)
        columns = [self.data.train[c][:CALIBRATION_TEXTS] for c in self.data.task.text_columns]
        self.texts = list(zip(*columns, strict=True)) if self.data.task.is_pair else columns[0]
        self.columns = list(next(iter(score_task(model, tokenizer, self.data, max_length=128).values())))

    def scores(self, model: PreTrainedModel) -> list[str]:
        (found,) = score_task(model, self.tokenizer, self.data, max_length=128).values()
        return [f"{100 * found[name]:.2f}" for name in self.columns]


def features(model: PreTrainedModel) -> str:
    """Of each layer, after splitting."""
    return " ".join(str(layer.scalars.offset.shape[1]) for layer in attention_layers(model))


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("models", nargs="+", help="students, or classifiers with --task")
    parser.add_argument("--task", help="a GLUE task")
    parser.add_argument("--bits", nargs="+", type=int, choices=BITS, default=[8, 6, 5, 4, 3])
    parser.add_argument("--no-split", action="store_true", help="leave wide features as they are")
    given = parser.parse_args()
    quiet(given.threads)
    for source in given.models:
        model, tokenizer = load_as_saved(source), load_tokenizer(source)
        if given.task:
            measured: Encoder | Classifier = Classifier(model, tokenizer, given.data / "glue", given.task)
        else:
            measured = Encoder(model, tokenizer, given.data)
        rows = [["float", "–", "–", *measured.scores(model)]]
        for bits in given.bits:
            for linears in (False, True):
                made = quantize(model, measured.texts, tokenizer, bits=bits, linears=linears, split=not given.no_split)
                rows.append([str(bits), "int8" if linears else "float", features(made), *measured.scores(made)])
        print(markdown_table(Table(source, ["bits", "linear layers", "features", *measured.columns], rows)))


if __name__ == "__main__":
    main()
