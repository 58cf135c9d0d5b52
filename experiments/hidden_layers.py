"""Which layers' hidden states the last stage should match: all, or fewer.

python experiments/hidden_layers.py runs/ablations/recipe/stages/2-align_contexts/student all last upper

Every row starts from the same student, whose contexts are aligned, and sees the same batches, 1,024 tokens a step.
Measured alike: errors of the last hidden states, STS-B zero-shot, and agreement with the teacher by length, as in
ablations.py. Layers below the lowest that is matched are trained through those above.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping

import ablations
import common
from torch import Tensor
from transformers import PreTrainedModel

from inhibitor_transformers.cli.options import resolve_model
from inhibitor_transformers.distill.config import AlignHiddenArguments
from inhibitor_transformers.distill.data import StepBatches, token_windows, unpack
from inhibitor_transformers.distill.objectives import HiddenObjective, Terms
from inhibitor_transformers.distill.scales import SCALE_BATCHES, hidden_scales
from inhibitor_transformers.distill.teacher import Teacher
from inhibitor_transformers.distill.trainer import DistillationTrainer
from inhibitor_transformers.measure.report import Table, markdown_table
from inhibitor_transformers.models import plan_layers
from inhibitor_transformers.models.pretrained import load_pretrained
from inhibitor_transformers.tasks import load_texts, split_held_out

SOURCES, TEXTS = ("wikitext-2", "imdb", "glue"), 6000  # of each


def matched(choice: str, layers: int) -> set[int]:
    """Which of so many layers are matched."""
    return set(range({"all": 0, "upper": layers // 2, "last": layers - 1}[choice], layers))


class MatchedLayers(HiddenObjective):
    """The terms of some layers alone."""

    layers: set[int]

    def forward(self, model: PreTrainedModel, batch: Mapping[str, Tensor], count: Tensor | float) -> Terms:
        terms = super().forward(model, batch, count)
        return {name: term for name, term in terms.items() if int(name.rsplit("_", 1)[1]) in self.layers}


def align(
    student: PreTrainedModel, choice: str, teacher: Teacher, batches: StepBatches, *, bf16: bool
) -> PreTrainedModel:
    plan = plan_layers("all", student.config.n_layers)
    some = [batches[i] for i in range(min(SCALE_BATCHES, len(batches)))]
    arguments = AlignHiddenArguments(
        output_dir="runs/hidden-layers",
        max_steps=len(batches),
        lengths=list(ablations.LENGTHS),
        learning_rate=4e-4,
        use_cpu=True,
        bf16=bf16,
        save_strategy="no",
    )
    objective = MatchedLayers(student, teacher, plan, hidden_scales(teacher, plan, some), arguments.first_token_weight)
    objective.layers = matched(choice, len(plan))
    student.base_model.embeddings.requires_grad_(False)
    DistillationTrainer(
        model=student,
        args=arguments,
        train_dataset=batches,
        data_collator=unpack,
        objective=objective,
        scalar_learning_rate_factor=5.0,
        dropout=False,
    ).train()
    return student.eval()


def main() -> None:
    parser = common.parser(__doc__, steps=200)
    parser.add_argument("start", help="folder of a student")
    parser.add_argument("choices", nargs="+", choices=["all", "last", "upper"])
    parser.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=True)
    given = parser.parse_args()
    tokenizer, teacher = common.minilm(given.threads)
    texts, _ = split_held_out(load_texts([given.data / name for name in SOURCES], max_texts=TEXTS, seed=0))
    lengths = list(ablations.LENGTHS)
    windows = token_windows(texts, tokenizer, lengths, max_tokens=given.steps * 1024, pair_share=0.5)
    batches = StepBatches(windows, tokenizer, steps=given.steps, tokens_per_step=1024, lengths=lengths)
    rows = []
    for choice in given.choices:
        student = align(load_pretrained(given.start), choice, teacher, batches, bf16=given.bf16)
        found = ablations.measure(student, resolve_model("minilm"), given.data)
        errors = (f"{found[name]:.3f}" for name in ("error", "first error"))
        rows.append([choice, *errors, f"{found['sts']:.4f}", *(f"{found['agreement'][n]:.3f}" for n in lengths)])
    print(markdown_table(Table("", ["layers", "error", "first token", "STS-B", *map(str, lengths)], rows)))


if __name__ == "__main__":
    main()
