"""Stage "calibrate": the scalars of every head by grid and least squares, without training (`calibration`)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from statistics import fmean
from typing import ClassVar

from transformers import PretrainedConfig, PreTrainedTokenizerBase

from ...common.number_ranges import FINITE, POSITIVE, check_number
from ...common.progress import track
from ...common.settings import require
from ...models.architectures import max_tokens, require_positions
from ...tasks.modalities import AudioExamples, ImageExamples
from ...tasks.text import Text
from ..data import exact_windows
from ..output_dir import write_json
from ..pairing import ConvertedPairing, EncoderPairing, Pairing
from .base import Batch, RunContext, Stage, require_lengths
from .calibrate_calls import calibrate_calls
from .calibration import DELTA_GRID, GAMMA_GRID, LENGTH_EXPONENT_GRID, Calibration, Grid, calibrate


@dataclass
class Calibrate(Stage):
    """Asks the teacher for layer inputs and attention outputs, and sets γ, δ, ρ, η.

    lengths: sequence lengths in tokens; those that no text reaches or the model cannot read are left out.
    tokens_per_length: how many tokens of each are used. examples: how many images or recordings instead.
    gammas, deltas, length_exponents: the grid, in the units of `calibration`; a single value fixes it.
    """

    name: ClassVar[str] = "calibrate"
    lengths: list[int] = field(default_factory=lambda: [16, 32, 64, 128, 256])
    tokens_per_length: int = 1024
    examples: int = 32
    gammas: list[float] = field(default_factory=lambda: list(GAMMA_GRID))
    deltas: list[float] = field(default_factory=lambda: list(DELTA_GRID))
    length_exponents: list[float] = field(default_factory=lambda: list(LENGTH_EXPONENT_GRID))

    def __post_init__(self) -> None:
        require_lengths(self.name, self.lengths)
        require(self.tokens_per_length >= max(self.lengths), "calibrate.tokens_per_length must hold one longest text")
        check_number("calibrate.examples", self.examples, POSITIVE)
        for name, allowed in (("gammas", POSITIVE), ("deltas", FINITE), ("length_exponents", FINITE)):
            values = getattr(self, name)
            numbers = isinstance(values, list) and all(isinstance(x, int | float) for x in values)
            require(numbers and bool(values), f"calibrate.{name} must be a list of numbers, got {values!r}")
            for value in values:
                check_number(f"each of calibrate.{name}", value, allowed)

    def check_model(self, config: PretrainedConfig) -> None:
        require_positions(config, min(self.lengths), f"{self.name}.lengths")

    def check_texts(self, texts: list[Text], tokenizer: PreTrainedTokenizerBase) -> None:
        shortest = min(self.lengths)
        if not exact_windows(texts, tokenizer, shortest, 1):
            raise ValueError(f"nothing to calibrate on: no text is as long as {shortest} tokens")

    def check_examples(self, examples: ImageExamples | AudioExamples) -> None:
        """Any will do."""

    def run(self, context: RunContext) -> None:
        """Set the student's scalars; the relative errors before and after are in calibration.json."""
        device, limit = context.student.device, max_tokens(context.student.config)
        batches = context.data.calibration_batches(self, limit, context.log)
        moved = [{name: tensor.to(device) for name, tensor in batch.items()} for batch in batches]
        result = _calibrate(context.pairing, moved, Grid(self.gammas, self.deltas, self.length_exponents))
        write_json(context.folder / "calibration.json", dataclasses.asdict(result))
        for i, (before, after) in enumerate(zip(result.before, result.relative_error, strict=True)):
            context.log(f"layer {i}: relative error of the attention outputs {fmean(before):.3g} -> {fmean(after):.3f}")


def _calibrate(pairing: Pairing, batches: list[Batch], grid: Grid) -> Calibration:
    if isinstance(pairing, EncoderPairing):
        return calibrate(pairing.student, pairing.teacher, pairing.layer_map, batches, grid)
    if isinstance(pairing, ConvertedPairing):
        calls = [pairing.teacher_calls(batch) for batch in track(batches, "asking the teacher")]
        return calibrate_calls(pairing.student, calls, grid)
    raise TypeError(f"no calibration of a {type(pairing).__name__}")
