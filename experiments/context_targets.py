"""What the alignment of contexts should aim at: the context, the projected output, or the attention pattern as well.

python experiments/context_targets.py context output pattern --steps 200
python experiments/context_targets.py context --steps 200 --student inhibitor_value_center=mean

Every target starts from the same calibrated student of `minilm` and sees the same batches. Measured alike: the relative
error of the contexts and of the projected outputs on texts that were held out, STS-B zero-shot, processor minutes.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import common
import torch
from common import split_heads
from torch import Tensor
from transformers import PreTrainedModel

from inhibitor_transformers.distill import losses
from inhibitor_transformers.distill.calibrate import calibrate
from inhibitor_transformers.distill.config import AlignContextsArguments
from inhibitor_transformers.distill.data import StepBatches, exact_windows, pad_windows, token_windows, unpack
from inhibitor_transformers.distill.objectives import ContextObjective, Terms
from inhibitor_transformers.distill.scales import context_scales
from inhibitor_transformers.distill.teacher import Signals, Teacher
from inhibitor_transformers.distill.trainer import DistillationTrainer
from inhibitor_transformers.measure.report import Table, markdown_table
from inhibitor_transformers.measure.similarity import sts_spearman
from inhibitor_transformers.models import InhibiDistilBertModel, plan_layers
from inhibitor_transformers.models.contexts import output_projections, record_contexts
from inhibitor_transformers.tasks import load_task, load_texts, split_held_out

LENGTHS = [32, 64, 128]


class Target(ContextObjective):
    """Contexts, and what else a target needs of student and teacher at the same inputs."""

    def recorded(self, batch: Mapping[str, Tensor]) -> tuple[list[Tensor], Signals, Tensor]:
        """The student's contexts, the teacher's signals, and which tokens are valid."""
        signals = self.teacher(batch, contexts=True, hidden=True)
        valid = batch["attention_mask"].bool()
        with record_contexts(self.projections) as contexts:
            for attention, source in zip(self.attentions, self.plan.teacher_layers, strict=True):
                attention(signals.hidden[source], attention_mask=None if valid.all() else valid)
        return contexts, signals, valid


class OutputTarget(Target):
    """Error after the output projection, which is trained along; over the mean square of the teacher's output."""

    def __call__(self, model: PreTrainedModel, batch: Mapping[str, Tensor], count: Any) -> Terms:
        contexts, signals, valid = self.recorded(batch)
        terms = {}
        for i, (ours, theirs) in enumerate(zip(self.projections, output_projections(self.teacher.model), strict=True)):
            target = theirs(signals.contexts[i]).detach()
            size = target[valid].square().mean()
            terms[f"output/layer_{i}"] = losses.squared_error(ours(contexts[i]), target, valid, count) / size
        return terms


class PatternTarget(Target):
    """Contexts, and 1 − the correlation of every row's −S with the teacher's logits, mean over rows and heads."""

    weight = 0.3

    def __call__(self, model: PreTrainedModel, batch: Mapping[str, Tensor], count: Any) -> Terms:
        terms = super().__call__(model, batch, count)
        signals = self.teacher(batch, hidden=True)
        valid = batch["attention_mask"].bool()
        for i, attention in enumerate(self.attentions):
            theirs = self.teacher.model.encoder.layer[i].attention.self
            hidden = signals.hidden[i]
            q, k = (split_heads(f(hidden), attention.n_heads) for f in (attention.q_lin, attention.k_lin))
            with torch.no_grad():
                tq, tk = (split_heads(f(hidden), attention.n_heads) for f in (theirs.query, theirs.key))
                logits = tq @ tk.transpose(-1, -2)
            closeness = -torch.cdist(q, k, p=1.0)
            rows = correlation(closeness, logits, valid[:, None, None, :])
            wrong = (1 - rows).mean(1).masked_fill(~valid, 0.0).sum() / count
            terms[f"pattern/layer_{i}"] = self.weight * wrong
        return terms


TARGETS: dict[str, type[ContextObjective]] = {
    "context": ContextObjective,
    "output": OutputTarget,
    "pattern": PatternTarget,
}


def correlation(a: Tensor, b: Tensor, valid: Tensor) -> Tensor:
    """Pearson correlation of the last dimension over its valid entries: (B, H, N)."""
    number = valid.sum(-1, keepdim=True)
    a, b = (x.masked_fill(~valid, 0.0) for x in (a, b))
    a, b = ((x - x.sum(-1, keepdim=True) / number).masked_fill(~valid, 0.0) for x in (a, b))
    return (a * b).sum(-1) / (a.square().sum(-1) * b.square().sum(-1)).clamp_min(1e-12).sqrt()


@torch.no_grad()
def held_out_errors(student: Any, teacher: Teacher, batches: StepBatches) -> tuple[float, float]:
    """Mean over the layers of Σ|error|² / Σ|teacher|², of the contexts and of the projected outputs."""
    plan = plan_layers("all", len(output_projections(student)))
    target = Target(student, teacher, plan, [1.0] * len(plan))
    sums = torch.zeros(2, 2, len(plan))
    for batch in (batches[i] for i in range(len(batches))):
        contexts, signals, valid = target.recorded(batch)
        pairs = zip(output_projections(student), output_projections(teacher.model), strict=True)
        for i, (ours, theirs) in enumerate(pairs):
            kinds = ((contexts[i], signals.contexts[i]), (ours(contexts[i]), theirs(signals.contexts[i])))
            for kind, (a, b) in enumerate(kinds):
                sums[kind, 0, i] += (a - b)[valid].square().sum()
                sums[kind, 1, i] += b[valid].square().sum()
    contexts_error, outputs_error = (sums[:, 0] / sums[:, 1]).mean(1).tolist()
    return contexts_error, outputs_error


def calibrated_student(
    teacher: Teacher, tokenizer: Any, texts: list[str], fields: dict[str, Any]
) -> InhibiDistilBertModel:
    """fields: of InhibiDistilBertConfig."""
    student = InhibiDistilBertModel.from_teacher(teacher.model, segments="fold", **fields)
    lengths = (16, *LENGTHS, 256)
    batches = [pad_windows(exact_windows(texts, tokenizer, n, 1024 // n), tokenizer) for n in lengths]
    calibrate(student, teacher, plan_layers("all", student.config.n_layers), batches)
    return student


def align(student: InhibiDistilBertModel, target: str, teacher: Teacher, batches: StepBatches, steps: int) -> float:
    """Train the contexts towards a target; returns the processor time in minutes."""
    plan = plan_layers("all", student.config.n_layers)
    scales = context_scales(teacher, plan, [batches[i] for i in range(min(8, len(batches)))])
    student.requires_grad_(False)
    for block in student.transformer.layer:
        trained = [block.attention.q_lin, block.attention.k_lin, block.attention.v_lin, block.attention.inhibitor]
        for module in trained + ([block.attention.out_lin] if target == "output" else []):
            module.requires_grad_(True)
    arguments = AlignContextsArguments(
        output_dir="runs/context-targets", max_steps=steps, lengths=LENGTHS, use_cpu=True, save_strategy="no"
    )
    started = time.process_time()
    DistillationTrainer(
        model=student,
        args=arguments,
        train_dataset=batches,
        data_collator=unpack,
        objective=TARGETS[target](student, teacher, plan, scales),
        scalar_learning_rate_factor=5.0,
        dropout=False,
    ).train()
    return (time.process_time() - started) / 60


def main() -> None:
    parser = common.parser(__doc__, steps=200)
    parser.add_argument("targets", nargs="+", choices=list(TARGETS))
    parser.add_argument("--student", nargs="+", default=[], metavar="FIELD=VALUE", help="of InhibiDistilBertConfig")
    given = parser.parse_args()
    fields = dict(field.split("=", 1) for field in given.student)
    tokenizer, teacher = common.minilm(given.threads)
    sources = [given.data / name for name in ("wikitext-2", "imdb")]
    texts, held_out = split_held_out(load_texts(sources, max_texts=6000, seed=0))
    windows = token_windows(texts, tokenizer, LENGTHS, max_tokens=given.steps * 2048)
    batches = StepBatches(windows, tokenizer, steps=given.steps, tokens_per_step=2048, lengths=LENGTHS)
    unseen = token_windows(held_out, tokenizer, LENGTHS, max_tokens=16_384)
    judged = StepBatches(unseen, tokenizer, steps=8, tokens_per_step=2048, lengths=LENGTHS)
    pairs = load_task("stsb", given.data).evaluation["validation"][:]
    rows = []
    for target in given.targets:
        student = calibrated_student(teacher, tokenizer, texts, fields)
        minutes = align(student, target, teacher, batches, given.steps)
        errors = held_out_errors(student.eval(), teacher, judged)
        sts = sts_spearman(student, tokenizer, pairs, max_length=128)
        rows.append([target, *(f"{error:.3f}" for error in errors), f"{sts:.4f}", f"{minutes:.1f}"])
    header = ["target", "contexts' error", "outputs' error", "STS-B", "processor min"]
    print(markdown_table(Table(f"After {given.steps} steps", header, rows)))


if __name__ == "__main__":
    main()
