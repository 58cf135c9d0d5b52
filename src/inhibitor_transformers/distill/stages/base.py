"""What a stage is, what it is given to run, and how a trained stage is trained."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

from torch import Tensor
from transformers import AutoModel, PretrainedConfig, PreTrainedTokenizerBase, TrainingArguments, set_seed

from ...attention.scalars import INITIAL
from ...common.number_ranges import FRACTION_OR_ONE, POSITIVE, check_number
from ...common.progress import Log
from ...common.settings import build, require, settle_numbers
from ...models import InhibiDistilBertModel, InhibiDistilBertPreTrainedModel, LayerMap
from ...models.architectures import attention_layers, require_positions
from ...tasks.text import Text
from ..data import StepBatches, token_windows, unpack
from ..losses import DistillationLoss
from ..output_dir import write_json
from ..teacher.cache import TeacherCache
from ..teacher.teacher import Teacher
from ..training.arguments import TrainerArguments
from ..training.checkpoints import checkpoint_to_resume
from ..training.log_lines import estimate_memory
from ..training.trainer import DistillationTrainer

ALIGNMENT_LENGTHS = (32, 64, 128, 256)
STATISTICS_BATCHES = 16  # that the variances of teacher outputs are taken from
LOG_FILE = "log.json"  # of a trained stage: what Trainer logged
# What a trained stage's YAML must not hold.
_DECIDED_ELSEWHERE = {
    "output_dir": "the run folder decides",
    "per_device_train_batch_size": "tokens_per_step decides",
    "num_train_epochs": "max_steps decides",
}

Batch = dict[str, Tensor]


class Models(NamedTuple):
    """What a stage needs its models loaded as: a student class, and an Auto class for the teacher."""

    student: type[InhibiDistilBertPreTrainedModel]
    teacher: type[Any]


ENCODERS = Models(InhibiDistilBertModel, AutoModel)


@dataclass(frozen=True)
class RunContext:
    """What a run gives each of its stages.

    student: changed in place. layer_map: which teacher layer each student layer stands for.
    texts: without those that are held out. folder: of this stage. cache: keeps teacher outputs on disk, None computes
    them in every step. log: receives one-line messages.
    """

    student: InhibiDistilBertPreTrainedModel
    teacher: Teacher
    layer_map: LayerMap
    tokenizer: PreTrainedTokenizerBase
    texts: list[Text]
    folder: Path
    cache: TeacherCache | None = None
    log: Log = print


class Stage(ABC):
    """Settings of one stage, and what it does with them. A subclass is a dataclass: its fields are the YAML's keys.

    name: in the YAML. models: what it needs its student and teacher to be; stages that need an encoder run with any.
    lengths: of the sequences that it reads, in tokens; empty for a stage that reads none.
    """

    name: ClassVar[str]
    models: ClassVar[Models] = ENCODERS
    lengths: Sequence[int] = ()

    @classmethod
    def from_settings(cls, settings: dict[str, Any], *, seed: int, output_dir: Path, **runtime: Any) -> Self:
        """The checked stage. Raises ConfigError.

        seed: of the run. output_dir: of the stage. runtime: TrainingArguments that no YAML holds (device, …).
        """
        stage: Self = build(cls, settings, where=f"stage {cls.name!r}")
        return stage

    @property
    def trainer_arguments(self) -> TrainingArguments | None:
        """Device and processes that it trains on; None if it does not train."""
        return None

    def check_model(self, config: PretrainedConfig) -> None:
        """Raise ValueError for lengths that the model cannot read."""
        if self.lengths:
            require_positions(config, max(self.lengths), f"{self.name}.lengths")

    @abstractmethod
    def check_texts(self, texts: list[Text], tokenizer: PreTrainedTokenizerBase) -> None:
        """Raise ValueError unless the texts hold something that the stage can learn from."""

    @abstractmethod
    def run(self, context: RunContext) -> None:
        """Change the student, in place."""


@dataclass
class TrainedStage(TrainerArguments, Stage):
    """A stage that trains: TrainingArguments with other defaults, and batches of about equally many tokens.

    tokens_per_step: tokens of one batch, padding included (times gradient accumulation and processes).
    lengths: window lengths that texts are cut to; one that is named twice is drawn twice as often.
    pair_fraction: fraction of the windows that become a pair of texts, [CLS] a [SEP] b [SEP], both in segment 0.
    frozen_scalars: those that are not trained, of gamma, delta, eta, length_exponent.

    dropout: whether the student's is on. dataset_class: makes batches of the windows.
    """

    dropout: ClassVar[bool] = False
    dataset_class: ClassVar[type[StepBatches]] = StepBatches

    max_steps: int = 700
    learning_rate: float = 1e-3
    lr_scheduler_type: str = "cosine"
    weight_decay: float = 0.0
    logging_steps: float = 10
    save_steps: float = 100
    tokens_per_step: int = 2048
    lengths: list[int] = field(default_factory=lambda: list(ALIGNMENT_LENGTHS))
    pair_fraction: float = 0.0
    scalar_learning_rate_factor: float = 5.0
    frozen_scalars: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        settle_numbers(self, f"{self.name}.")
        frozen = self.frozen_scalars
        known = isinstance(frozen, list) and all(name in INITIAL for name in frozen)
        require(known, f"{self.name}.frozen_scalars must be a list of {', '.join(INITIAL)}, got {frozen!r}")
        check_number(f"{self.name}.max_steps", self.max_steps, POSITIVE)
        require_lengths(self.name, self.lengths)
        require(
            self.tokens_per_step >= max(self.lengths),
            f"{self.name}.tokens_per_step ({self.tokens_per_step}) must hold the longest text ({max(self.lengths)})",
        )
        check_number(f"{self.name}.pair_fraction", self.pair_fraction, FRACTION_OR_ONE)
        self.per_device_train_batch_size = 1  # one item of the data is a whole batch
        super().__post_init__()

    @abstractmethod
    def make_loss(self, context: RunContext, dataset: StepBatches) -> DistillationLoss:
        """What the student is trained on. An nn.Module is trained along and kept in the checkpoints."""

    def teacher_outputs(self, layer_map: LayerMap) -> list[str]:
        """Teacher outputs that the loss reads for every window ("hidden-3", …), to be kept in a cache.

        By default none: where tokens are masked anew in every step, nothing can be kept.
        """
        return []

    def select_trainable(self, student: InhibiDistilBertPreTrainedModel) -> None:
        """Switch `requires_grad` off where nothing is trained; on entry, everything is."""

    @classmethod
    def from_settings(cls, settings: dict[str, Any], *, seed: int, output_dir: Path, **runtime: Any) -> Self:
        for key, instead in _DECIDED_ELSEWHERE.items():
            require(key not in settings, f"stage {cls.name!r}: {key} cannot be set; {instead}")
        given = {"seed": seed} | settings | runtime | {"output_dir": str(output_dir)}
        return super().from_settings(given, seed=seed, output_dir=output_dir)

    @property
    def trainer_arguments(self) -> TrainingArguments:
        return self

    def check_texts(self, texts: list[Text], tokenizer: PreTrainedTokenizerBase) -> None:
        token_windows(texts, tokenizer, self.lengths, max_tokens=1)

    def run(self, context: RunContext) -> None:
        """Train the student; goes on from the last whole checkpoint in the folder, if there is one."""
        set_seed(self.seed)  # whatever ran before, so that a resumed run draws the same
        dataset = self._make_dataset(context)
        student, log = context.student, context.log
        if context.cache is not None and (outputs := self.teacher_outputs(context.layer_map)):
            cached = context.cache.teacher_for(dataset.windows, outputs, log)
            context = dataclasses.replace(context, teacher=cached)
        with self._only_trainable(student):
            log(str(estimate_memory(student, context.teacher.model, student.config, self.tokens_per_step)))
            trainer = DistillationTrainer(
                model=student,
                args=self,
                train_dataset=dataset,
                data_collator=unpack,
                processing_class=context.tokenizer,
                criterion=self.make_loss(context, dataset),
                scalar_learning_rate_factor=self.scalar_learning_rate_factor,
                dropout=self.dropout,
            )
            checkpoint = checkpoint_to_resume(context.folder, log, "the stage")
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        student.eval()
        write_json(context.folder / LOG_FILE, trainer.state.log_history)

    def _make_dataset(self, context: RunContext) -> StepBatches:
        steps = self.max_steps * self.gradient_accumulation_steps * self.world_size
        windows = token_windows(
            context.texts,
            context.tokenizer,
            self.lengths,
            seed=self.seed,
            max_tokens=steps * self.tokens_per_step,
            pair_fraction=self.pair_fraction,
        )
        context.log(f"{len(windows)} windows, {sum(map(len, windows))} tokens of text")
        return self.dataset_class(
            windows,
            context.tokenizer,
            steps=steps,
            tokens_per_step=self.tokens_per_step,
            lengths=self.lengths,
            seed=self.seed,
        )

    @contextmanager
    def _only_trainable(self, student: InhibiDistilBertPreTrainedModel) -> Iterator[None]:
        """While inside, only what the stage trains requires a gradient."""
        self.select_trainable(student)
        for layer in attention_layers(student):
            for name in self.frozen_scalars:
                getattr(layer.scalars, name).requires_grad_(False)
        try:
            yield
        finally:
            student.requires_grad_(True)


def require_lengths(stage: str, lengths: Any) -> None:
    """Raise ConfigError unless `lengths` is a list of whole numbers of at least 8."""
    whole = isinstance(lengths, list) and bool(lengths) and all(isinstance(n, int) and n >= 8 for n in lengths)
    require(whole, f"{stage}.lengths must be a list of at least 8 tokens each, such as [32, 64], got {lengths!r}")


def statistics_batches(context: RunContext, dataset: StepBatches) -> list[Batch]:
    """The first batches of a data set on the student's device: enough to take the teacher's variances from."""
    batches = [dataset[i] for i in range(min(STATISTICS_BATCHES, len(dataset)))]
    return [{name: t.to(context.student.device) for name, t in batch.items()} for batch in batches]
