"""What the alignment stages and fine-tuning want of Trainer alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from transformers import TrainingArguments

from .number_ranges import NOT_NEGATIVE, TRAINING, check_numbers
from .settings import require

_RANGES = TRAINING | {"scalar_learning_rate_factor": NOT_NEGATIVE}


@dataclass
class TrainedArguments(TrainingArguments):
    """TrainingArguments with other defaults, whose numbers are checked.

    scalar_learning_rate_factor: learning rate of γ, δ, η, ρ over that of the weights.

    Raises ConfigError for a number out of its range, and for a setting that nothing here would obey.
    """

    name: ClassVar[str] = ""  # of a stage, for messages

    warmup_steps: float = 0.1
    save_total_limit: int | None = 2
    remove_unused_columns: bool | None = False  # objectives read more than the model's forward names
    report_to: str | None = "none"
    disable_tqdm: bool | None = False  # None would hide the bar wherever logging is quiet
    dataloader_pin_memory: bool = False  # nothing to gain with batches this small, and a warning without a GPU
    scalar_learning_rate_factor: float = 1.0

    def __post_init__(self) -> None:
        prefix = f"{self.name}." if self.name else ""
        check_numbers(self, _RANGES, prefix)
        smoothing = self.label_smoothing_factor
        require(smoothing == 0, f"{prefix}label_smoothing_factor is not computed here, got {smoothing!r}; leave it out")
        super().__post_init__()
