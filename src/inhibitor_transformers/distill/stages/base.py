"""What a stage is, what it is given to run, and how a trained stage is trained."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

from accelerate.state import AcceleratorState
from torch import Tensor
from transformers import (
    AutoModel,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainingArguments,
    set_seed,
)

from ...attention.scalars import INITIAL
from ...common.number_ranges import FRACTION_OR_ONE, POSITIVE, check_number
from ...common.progress import Log
from ...common.settings import build, require, settle_numbers
from ...models import InhibiDistilBertModel, InhibiDistilBertPreTrainedModel, LayerMap
from ...models.architectures import require_positions
from ...tasks.modalities import AudioExamples, ImageExamples
from ...tasks.text import Text
from ..data import StepBatches, token_windows, unpack
from ..examples import ExampleBatches
from ..losses import DistillationLoss
from ..output_dir import write_json
from ..pairing import EncoderPairing, Pairing
from ..run_data import Batches, RunData, TextData
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

    pairing: the student, changed in place, and its teacher. data: without what is held out. folder: of this stage.
    cache: keeps teacher outputs on disk, None computes them in every step. log: receives one-line messages.
    """

    pairing: Pairing
    data: RunData
    folder: Path
    cache: TeacherCache | None = None
    log: Log = print

    @property
    def student(self) -> PreTrainedModel:
        return self.pairing.student

    @property
    def teacher(self) -> Teacher:
        return self.pairing.teacher


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

    def check_pairing(self, pairing: Pairing) -> None:  # noqa: B027  most stages take any
        """Raise ValueError for a student or teacher that lacks what the stage compares."""

    @abstractmethod
    def check_texts(self, texts: list[Text], tokenizer: PreTrainedTokenizerBase) -> None:
        """Raise ValueError unless the texts hold something that the stage can learn from."""

    def check_examples(self, examples: ImageExamples | AudioExamples) -> None:
        """Raise ValueError unless the images or recordings are what the stage can learn from; by default none are."""
        raise ValueError(f"the stage {self.name} learns from texts only")

    @abstractmethod
    def run(self, context: RunContext) -> None:
        """Change the student, in place."""


@dataclass
class TrainedStage(TrainerArguments, Stage):
    """A stage that trains: TrainingArguments with other defaults, and batches of about equally many tokens.

    tokens_per_step: tokens of one batch, padding included (times gradient accumulation and processes).
    lengths: window lengths that texts are cut to; one that is named twice is drawn twice as often.
    pair_fraction: fraction of the windows that become a pair of texts, [CLS] a [SEP] b [SEP], both in segment 0.
    masked_fraction: of the tokens, hidden from both models, as a masked language model reads them.
    examples_per_step: images or recordings of one batch, where the run has these instead of texts.
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
    masked_fraction: float = 0.0
    examples_per_step: int = 32
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
        for name in ("pair_fraction", "masked_fraction"):
            check_number(f"{self.name}.{name}", getattr(self, name), FRACTION_OR_ONE)
        check_number(f"{self.name}.examples_per_step", self.examples_per_step, POSITIVE)
        self.per_device_train_batch_size = 1  # one item of the data is a whole batch
        super().__post_init__()

    @abstractmethod
    def make_loss(self, context: RunContext, dataset: Any) -> DistillationLoss:
        """What the student is trained on. An nn.Module is trained along and kept in the checkpoints."""

    def teacher_outputs(self, layer_map: LayerMap) -> list[str]:
        """Teacher outputs that the loss reads for every window ("hidden-3", …), to be kept in a cache.

        By default none: where tokens are masked anew in every step, nothing can be kept.
        """
        return []

    def select_trainable(self, pairing: Pairing) -> None:
        """Switch `requires_grad` of the student off where nothing is trained; on entry, everything is."""

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
        if self.masked_fraction and tokenizer.mask_token_id is None:
            raise ValueError(f"{self.name}.masked_fraction: the tokenizer has no mask token")

    def check_examples(self, examples: ImageExamples | AudioExamples) -> None:
        ExampleBatches(examples, steps=1, size=self.examples_per_step)

    def run(self, context: RunContext) -> None:
        """Train the student; goes on from the last whole checkpoint in the folder, if there is one."""
        set_seed(self.seed)  # whatever ran before, so that a resumed run draws the same
        AcceleratorState._reset_state()  # a process keeps the precision that it trained in first, and refuses others
        steps = self.max_steps * self.gradient_accumulation_steps * self.world_size
        dataset = context.data.training_batches(self, steps, context.log)
        context = self._with_cached_teacher(context, dataset)
        student, log = context.student, context.log
        with self._only_trainable(context.pairing):
            if isinstance(context.data, TextData):
                log(str(estimate_memory(student, context.teacher.model, student.config, self.tokens_per_step)))
            trainer = DistillationTrainer(
                model=student,
                args=self,
                train_dataset=dataset,
                data_collator=unpack,
                processing_class=context.data.preprocessor,
                criterion=self.make_loss(context, dataset),
                scalar_learning_rate_factor=self.scalar_learning_rate_factor,
                dropout=self.dropout,
            )
            checkpoint = checkpoint_to_resume(context.folder, log, "the stage")
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        student.eval()
        write_json(context.folder / LOG_FILE, trainer.state.log_history)

    def _with_cached_teacher(self, context: RunContext, dataset: Batches) -> RunContext:
        """The context with a teacher that reads from the cache what the loss needs and the cache can keep."""
        pairing = context.pairing
        if context.cache is None or not isinstance(pairing, EncoderPairing) or not isinstance(dataset, StepBatches):
            return context
        outputs = self.teacher_outputs(pairing.layer_map)
        if not outputs:
            return context
        cached = context.cache.teacher_for(dataset.windows, outputs, context.log)
        return dataclasses.replace(context, pairing=pairing.with_teacher(cached))

    @contextmanager
    def _only_trainable(self, pairing: Pairing) -> Iterator[None]:
        """While inside, only what the stage trains requires a gradient."""
        self.select_trainable(pairing)
        for scalars in pairing.scalars():
            for name in self.frozen_scalars:
                getattr(scalars, name).requires_grad_(False)
        try:
            yield
        finally:
            pairing.student.requires_grad_(True)


def require_lengths(stage: str, lengths: Any) -> None:
    """Raise ConfigError unless `lengths` is a list of whole numbers of at least 8."""
    whole = isinstance(lengths, list) and bool(lengths) and all(isinstance(n, int) and n >= 8 for n in lengths)
    require(whole, f"{stage}.lengths must be a list of at least 8 tokens each, such as [32, 64], got {lengths!r}")


def statistics_batches(context: RunContext, dataset: Any) -> list[Batch]:
    """The first batches of a data set on the student's device: enough to take the teacher's variances from."""
    batches = [dataset[i] for i in range(min(STATISTICS_BATCHES, len(dataset)))]
    return [{name: t.to(context.student.device) for name, t in batch.items()} for batch in batches]
