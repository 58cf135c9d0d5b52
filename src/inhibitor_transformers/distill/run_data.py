"""What a run learns from: texts, or images or recordings; as batches for the stages, and known again on resuming."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Protocol

from torch import Tensor
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase

from ..common.progress import Log
from ..tasks.modalities import AudioExamples, ImageExamples, Preprocessor
from ..tasks.text import Text
from .data import MaskedInputs, StepBatches, exact_windows, pad_windows, token_windows
from .examples import ExampleBatches, digests, unlabeled
from .teacher.fingerprints import fingerprint

_CALIBRATION_BATCH = 16

Batches = Dataset[dict[str, Tensor]]


class TrainingSettings(Protocol):
    """What a trained stage says of its batches."""

    tokens_per_step: int
    lengths: list[int]
    pair_fraction: float
    masked_fraction: float
    examples_per_step: int
    seed: int
    dataset_class: Any


class CalibrationSettings(Protocol):
    """What a calibration says of its batches."""

    lengths: list[int]
    tokens_per_length: int
    examples: int


class Checks(Protocol):
    """A stage, which knows what it needs of the data."""

    def check_texts(self, texts: list[Text], tokenizer: PreTrainedTokenizerBase) -> None: ...

    def check_examples(self, examples: ImageExamples | AudioExamples) -> None: ...


class RunData(ABC):
    """preprocessor: saved beside the student."""

    preprocessor: Preprocessor

    @abstractmethod
    def fingerprint(self) -> dict[str, str]:
        """What a resumed run must find unchanged, by its name in run.yaml."""

    @abstractmethod
    def check(self, stage: Checks) -> None:
        """Raise ValueError unless a stage can learn from these data."""

    @abstractmethod
    def training_batches(self, stage: TrainingSettings, steps: int, log: Log) -> Batches:
        """A batch per step."""

    @abstractmethod
    def calibration_batches(self, stage: CalibrationSettings, most_tokens: int | None, log: Log) -> list[Any]:
        """Batches without padding, where the model reads at most so many tokens."""


class TextData(RunData):
    """texts: without those that are held out. preprocessor: the tokenizer, or the processor that it is a part of."""

    def __init__(
        self, texts: list[Text], tokenizer: PreTrainedTokenizerBase, preprocessor: Preprocessor | None = None
    ) -> None:
        self.texts, self.tokenizer = texts, tokenizer
        self.preprocessor = tokenizer if preprocessor is None else preprocessor

    def fingerprint(self) -> dict[str, str]:
        return {"texts": fingerprint(self.texts)}

    def check(self, stage: Checks) -> None:
        stage.check_texts(self.texts, self.tokenizer)

    def training_batches(self, stage: TrainingSettings, steps: int, log: Log) -> Batches:
        windows = token_windows(
            self.texts,
            self.tokenizer,
            stage.lengths,
            seed=stage.seed,
            max_tokens=steps * stage.tokens_per_step,
            pair_fraction=stage.pair_fraction,
        )
        log(f"{len(windows)} windows, {sum(map(len, windows))} tokens of text")
        batches: StepBatches = stage.dataset_class(
            windows,
            self.tokenizer,
            steps=steps,
            tokens_per_step=stage.tokens_per_step,
            lengths=stage.lengths,
            seed=stage.seed,
        )
        return MaskedInputs(batches, stage.masked_fraction) if stage.masked_fraction else batches

    def calibration_batches(self, stage: CalibrationSettings, most_tokens: int | None, log: Log) -> list[Any]:
        """One batch per length."""
        batches = []
        limit = most_tokens or max(stage.lengths)
        for length in stage.lengths:
            if length > limit:
                log(f"the model reads at most {limit} tokens: calibrating without {length}")
                continue
            count = max(stage.tokens_per_length // length, 1)
            windows = exact_windows(self.texts, self.tokenizer, length, count)
            if not windows:
                log(f"no text is as long as {length} tokens: calibrating without that length")
                continue
            batches.append(pad_windows(windows, self.tokenizer))
        return batches


class ExampleData(RunData):
    """Images or recordings, without those that are held out, prepared by the teacher's own preprocessor."""

    def __init__(self, examples: ImageExamples | AudioExamples, preprocessor: Preprocessor) -> None:
        self.examples, self.preprocessor = examples, preprocessor

    def fingerprint(self) -> dict[str, str]:
        return {"examples": fingerprint(digests(self.examples))}

    def check(self, stage: Checks) -> None:
        stage.check_examples(self.examples)

    def training_batches(self, stage: TrainingSettings, steps: int, log: Log) -> ExampleBatches:
        log(f"{len(self.examples)} examples, {stage.examples_per_step} in a step")
        return ExampleBatches(self.examples, steps=steps, size=stage.examples_per_step, seed=stage.seed)

    def calibration_batches(self, stage: CalibrationSettings, most_tokens: int | None, log: Log) -> list[Any]:
        count = min(stage.examples, len(self.examples))
        starts = range(0, count, _CALIBRATION_BATCH)
        return [unlabeled(self.examples, _indices(start, count)) for start in starts]


def _indices(start: int, end: int) -> list[int]:
    return list(range(start, min(start + _CALIBRATION_BATCH, end)))
