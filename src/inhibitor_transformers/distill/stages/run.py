"""What each stage does with a student."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from transformers import PretrainedConfig, PreTrainedTokenizerBase, set_seed

from ...models import InhibiDistilBertPreTrainedModel, LayerMap
from ...models.architectures import max_tokens, require_positions
from ...tasks.text import Text
from ..config import (
    AlignAttentionArguments,
    AlignHiddenArguments,
    CalibrateConfig,
    MaskedLMArguments,
    StageArguments,
    StageConfig,
)
from ..data import MaskedStepBatches, StepBatches, exact_windows, pad_windows, token_windows, unpack
from ..objectives import AttentionOutputLoss, DistillationLoss, HiddenStateLoss, MaskedLMLoss
from ..output_dir import write_json
from ..teacher.cache import TeacherCache
from ..teacher.teacher import Teacher
from ..training.checkpoints import last_whole_checkpoint
from ..training.memory import estimate_memory
from ..training.trainer import DistillationTrainer
from ..variances import SCALE_BATCHES, attention_output_mean_squares, hidden_variances
from .calibrate import Grid, calibrate

Log = Callable[[str], None]


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
    layer_map: LayerMap,
    tokenizer: PreTrainedTokenizerBase,
    texts: list[Text],
    folder: Path,
    *,
    cache: TeacherCache | None = None,
    log: Log = print,
) -> None:
    """Run one stage on `student`, in place; a trained stage resumes from its last whole checkpoint in `folder`.

    cache: keeps the teacher's signals of a stage that reads hidden states or contexts; by default none are kept.
    """
    if isinstance(stage, CalibrateConfig):
        _calibrate(stage, student, teacher, layer_map, tokenizer, texts, folder, log)
    else:
        _train(stage, student, teacher, layer_map, tokenizer, texts, folder, cache, log)


def _calibrate(
    stage: CalibrateConfig,
    student: InhibiDistilBertPreTrainedModel,
    teacher: Teacher,
    layer_map: LayerMap,
    tokenizer: PreTrainedTokenizerBase,
    texts: list[Text],
    folder: Path,
    log: Log,
) -> None:
    batches = []
    limit = max_tokens(student.config) or max(stage.lengths)
    for length in stage.lengths:
        if length > limit:
            log(f"the model reads at most {limit} tokens: calibrating without {length}")
            continue
        windows = exact_windows(texts, tokenizer, length, max(stage.tokens_per_length // length, 1))
        if not windows:
            log(f"no text is as long as {length} tokens: calibrating without that length")
            continue
        batch = pad_windows(windows, tokenizer)
        batches.append({name: t.to(student.device) for name, t in batch.items()})
    grid = Grid(stage.gammas, stage.deltas, stage.length_exponents)
    result = calibrate(student, teacher, layer_map, batches, grid)
    write_json(folder / "calibration.json", dataclasses.asdict(result))
    for i, (before, after) in enumerate(zip(result.before, result.relative_error, strict=True)):
        log(f"layer {i}: relative error of the contexts {_mean(before):.3g} -> {_mean(after):.3f}")


def _train(
    stage: StageArguments,
    student: InhibiDistilBertPreTrainedModel,
    teacher: Teacher,
    layer_map: LayerMap,
    tokenizer: PreTrainedTokenizerBase,
    texts: list[Text],
    folder: Path,
    cache: TeacherCache | None,
    log: Log,
) -> None:
    set_seed(stage.seed)  # whatever ran before, so that a resumed run draws the same
    steps = stage.max_steps * stage.gradient_accumulation_steps * stage.world_size
    windows = token_windows(
        texts,
        tokenizer,
        stage.lengths,
        seed=stage.seed,
        max_tokens=steps * stage.tokens_per_step,
        pair_fraction=stage.pair_fraction,
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
    log(f"{len(windows)} windows, {sum(map(len, windows))} tokens of text")
    if cache is not None and (teacher_outputs := _signals(stage, layer_map)):
        teacher = cache.teacher_for(windows, teacher_outputs, log)
    with _trainable(student, stage):
        log(str(estimate_memory(student, teacher.model, student.config, stage.tokens_per_step)))
        trainer = DistillationTrainer(
            model=student,
            args=stage,
            train_dataset=dataset,
            data_collator=unpack,
            processing_class=tokenizer,
            criterion=_objective(stage, student, teacher, layer_map, dataset),
            scalar_learning_rate_factor=stage.scalar_learning_rate_factor,
            dropout=stage.dropout,
        )
        checkpoint = last_whole_checkpoint(folder, log)
        if checkpoint is not None:
            log(f"resuming from {checkpoint.name}")
        elif any(folder.glob("checkpoint-*")):
            log("no checkpoint is whole: the stage starts anew")
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    student.eval()
    write_json(folder / "log.json", trainer.state.log_history)


def _signals(stage: StageArguments, layer_map: LayerMap) -> list[str]:
    """What a stage asks of the teacher about every window; nothing where the tokens are masked anew each time."""
    if isinstance(stage, AlignAttentionArguments):
        return AttentionOutputLoss.teacher_outputs(layer_map)
    return HiddenStateLoss.teacher_outputs(layer_map) if isinstance(stage, AlignHiddenArguments) else []


def _objective(
    stage: StageArguments,
    student: InhibiDistilBertPreTrainedModel,
    teacher: Teacher,
    layer_map: LayerMap,
    dataset: StepBatches,
) -> DistillationLoss:
    if isinstance(stage, MaskedLMArguments):
        return MaskedLMLoss(
            teacher,
            temperature=stage.temperature,
            alpha_ce=stage.alpha_ce,
            alpha_mlm=stage.alpha_mlm,
            alpha_cos=stage.alpha_cos,
        )
    batches = [dataset[i] for i in range(min(SCALE_BATCHES, len(dataset)))]
    batches = [{name: t.to(student.device) for name, t in batch.items()} for batch in batches]
    if isinstance(stage, AlignAttentionArguments):
        return AttentionOutputLoss(
            student, teacher, layer_map, attention_output_mean_squares(teacher, layer_map, batches)
        )
    assert isinstance(stage, AlignHiddenArguments)
    variances = hidden_variances(teacher, layer_map, batches)
    return HiddenStateLoss(student, teacher, layer_map, variances, stage.cls_weight, stage.pooled_weight)


@contextmanager
def _trainable(student: InhibiDistilBertPreTrainedModel, stage: StageArguments) -> Iterator[None]:
    """While inside, only what the stage trains requires a gradient."""
    if isinstance(stage, AlignAttentionArguments):
        student.requires_grad_(False)
        for block in student.base_model.transformer.layer:
            attention = block.attention
            for module in (attention.q_lin, attention.k_lin, attention.v_lin, attention.inhibitor):
                module.requires_grad_(True)
    elif isinstance(stage, AlignHiddenArguments):
        # They are the teacher's to begin with: training could only move the many words that these texts lack.
        student.base_model.embeddings.requires_grad_(False)
    for block in student.base_model.transformer.layer:
        for name in stage.frozen_scalars:
            getattr(block.attention.inhibitor, name).requires_grad_(False)
    try:
        yield
    finally:
        student.requires_grad_(True)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
