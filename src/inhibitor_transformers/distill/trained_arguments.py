"""What the alignment stages and fine-tuning want of Trainer alike."""

from __future__ import annotations

from dataclasses import dataclass

from transformers import TrainingArguments


@dataclass
class TrainedArguments(TrainingArguments):
    """TrainingArguments with other defaults.

    scalar_learning_rate_factor: learning rate of γ, δ, η, ρ over that of the weights.
    """

    warmup_steps: float = 0.1
    save_total_limit: int | None = 2
    remove_unused_columns: bool | None = False  # objectives read more than the model's forward names
    report_to: str | None = "none"
    disable_tqdm: bool | None = False  # None would hide the bar wherever logging is quiet
    dataloader_pin_memory: bool = False  # nothing to gain with batches this small, and a warning without a GPU
    scalar_learning_rate_factor: float = 1.0
