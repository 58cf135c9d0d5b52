"""What each stage does with a student."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from transformers import PretrainedConfig, PreTrainedTokenizerBase, set_seed

from ..measure.positions import max_tokens, require_positions
from ..models import InhibiDistilBertPreTrainedModel, LayerPlan
from ..tasks.text import Text
from .cache import TeacherCache
from .calibrate import Grid, calibrate
from .checkpoints import last_whole_checkpoint
from .config import (
    AlignContextsArguments,
    AlignHiddenArguments,
    CalibrateConfig,
    MaskedLMArguments,
    StageArguments,
    StageConfig,
)
from .data import MaskedStepBatches, StepBatches, exact_windows, pad_windows, token_windows, unpack
from .folders import write_json
from .memory import estimate_memory
from .objectives import ContextObjective, HiddenObjective, MaskedLMObjective, Objective
from .scales import SCALE_BATCHES, context_scales, hidden_scales
from .teacher import Teacher
from .trainer import DistillationTrainer

Say = Callable[[str], None]


def require_readable_lengths(stage: StageConfig, config: PretrainedConfig) -> None:
    """Raise ValueError for lengths that the model cannot read; calibration leaves out those, if others remain."""
    calibrates = isinstance(stage, CalibrateConfig)
    require_positions(config, (min if calibrates else max)(stage.lengths), f"{stage.name}.lengths")


def require_windows(stage: StageConfig, texts: list[Text], tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise ValueError unless the texts hold something that the stage can learn from."""
    if isinstance(stage, CalibrateConfig):
        if not exact_windows(texts, tokenizer, min(stage.lengths), 1):
            raise ValueError(f"nothing to calibrate on: no text is as long as {min(stage.lengths)} tokens")
    else:
        token_windows(texts, tokenizer, stage.lengths, max_tokens=1)


def run_stage(
    stage: StageConfig,
    student: InhibiDistilBertPreTrainedModel,
    teacher: Teacher,
    plan: LayerPlan,
    tokenizer: PreTrainedTokenizerBase,
    texts: list[Text],
    folder: Path,
    *,
    cache: TeacherCache | None = None,
    say: Say = print,
) -> None:
    """Run one stage on `student`, in place; a trained stage resumes from its last whole checkpoint in `folder`.

    cache: keeps the teacher's signals of a stage that reads hidden states or contexts; by default none are kept.
    """
    if isinstance(stage, CalibrateConfig):
        _calibrate(stage, student, teacher, plan, tokenizer, texts, folder, say)
    else:
        _train(stage, student, teacher, plan, tokenizer, texts, folder, cache, say)


def _calibrate(
    stage: CalibrateConfig,
    student: InhibiDistilBertPreTrainedModel,
    teacher: Teacher,
    plan: LayerPlan,
    tokenizer: PreTrainedTokenizerBase,
    texts: list[Text],
    folder: Path,
    say: Say,
) -> None:
    batches = []
    limit = max_tokens(student.config) or max(stage.lengths)
    for length in stage.lengths:
        if length > limit:
            say(f"the model reads at most {limit} tokens: calibrating without {length}")
            continue
        windows = exact_windows(texts, tokenizer, length, max(stage.tokens_per_length // length, 1))
        if not windows:
            say(f"no text is as long as {length} tokens: calibrating without that length")
            continue
        batch = pad_windows(windows, tokenizer)
        batches.append({name: t.to(student.device) for name, t in batch.items()})
    grid = Grid(stage.gammas, stage.deltas, stage.length_exponents)
    result = calibrate(student, teacher, plan, batches, grid)
    write_json(folder / "calibration.json", dataclasses.asdict(result))
    for i, (before, after) in enumerate(zip(result.before, result.relative_error, strict=True)):
        say(f"layer {i}: relative error of the contexts {_mean(before):.3g} -> {_mean(after):.3f}")


def _train(
    stage: StageArguments,
    student: InhibiDistilBertPreTrainedModel,
    teacher: Teacher,
    plan: LayerPlan,
    tokenizer: PreTrainedTokenizerBase,
    texts: list[Text],
    folder: Path,
    cache: TeacherCache | None,
    say: Say,
) -> None:
    set_seed(stage.seed)  # whatever ran before, so that a resumed run draws the same
    steps = stage.max_steps * stage.gradient_accumulation_steps * stage.world_size
    windows = token_windows(
        texts,
        tokenizer,
        stage.lengths,
        seed=stage.seed,
        max_tokens=steps * stage.tokens_per_step,
        pair_share=stage.pair_share,
    )
    dataset_class = MaskedStepBatches if isinstance(stage, MaskedLMArguments) else StepBatches
    dataset = dataset_class(
        windows,
        tokenizer,
        steps=steps,
        tokens_per_step=stage.tokens_per_step,
        lengths=stage.lengths,
        seed=stage.seed,
    )
    say(f"{len(windows)} windows, {sum(map(len, windows))} tokens of text")
    if cache is not None and (signals := _signals(stage, plan)):
        teacher = cache.teacher_for(windows, signals, say)
    with _trainable(student, stage):
        say(str(estimate_memory(student, teacher.model, student.config, stage.tokens_per_step)))
        trainer = DistillationTrainer(
            model=student,
            args=stage,
            train_dataset=dataset,
            data_collator=unpack,
            processing_class=tokenizer,
            objective=_objective(stage, student, teacher, plan, dataset),
            scalar_learning_rate_factor=stage.scalar_learning_rate_factor,
            dropout=stage.dropout,
        )
        checkpoint = last_whole_checkpoint(folder, say)
        if checkpoint is not None:
            say(f"resuming from {checkpoint.name}")
        elif any(folder.glob("checkpoint-*")):
            say("no checkpoint is whole: the stage starts anew")
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    student.eval()
    write_json(folder / "log.json", trainer.state.log_history)


def _signals(stage: StageArguments, plan: LayerPlan) -> list[str]:
    """What a stage asks of the teacher about every window; nothing where the tokens are masked anew each time."""
    if isinstance(stage, AlignContextsArguments):
        return ContextObjective.signals(plan)
    return HiddenObjective.signals(plan) if isinstance(stage, AlignHiddenArguments) else []


def _objective(
    stage: StageArguments,
    student: InhibiDistilBertPreTrainedModel,
    teacher: Teacher,
    plan: LayerPlan,
    dataset: StepBatches,
) -> Objective:
    if isinstance(stage, MaskedLMArguments):
        return MaskedLMObjective(
            teacher,
            temperature=stage.temperature,
            alpha_ce=stage.alpha_ce,
            alpha_mlm=stage.alpha_mlm,
            alpha_cos=stage.alpha_cos,
        )
    batches = [dataset[i] for i in range(min(SCALE_BATCHES, len(dataset)))]
    batches = [{name: t.to(student.device) for name, t in batch.items()} for batch in batches]
    if isinstance(stage, AlignContextsArguments):
        return ContextObjective(student, teacher, plan, context_scales(teacher, plan, batches))
    assert isinstance(stage, AlignHiddenArguments)
    scales = hidden_scales(teacher, plan, batches)
    return HiddenObjective(student, teacher, plan, scales, stage.first_token_weight, stage.text_weight)


@contextmanager
def _trainable(student: InhibiDistilBertPreTrainedModel, stage: StageArguments) -> Iterator[None]:
    """While inside, only what the stage trains requires a gradient."""
    if isinstance(stage, AlignContextsArguments):
        student.requires_grad_(False)
        for block in student.base_model.transformer.layer:
            attention = block.attention
            for module in (attention.q_lin, attention.k_lin, attention.v_lin, attention.inhibitor):
                module.requires_grad_(True)
    elif isinstance(stage, AlignHiddenArguments):
        # They are the teacher's to begin with: training could only move the many words that these texts lack.
        student.base_model.embeddings.requires_grad_(False)
    for block in student.base_model.transformer.layer:
        for name in stage.fixed_scalars:
            getattr(block.attention.inhibitor, name).requires_grad_(False)
    try:
        yield
    finally:
        student.requires_grad_(True)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
