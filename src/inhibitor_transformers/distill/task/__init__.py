"""Fine-tuning on a task, plain or distilled from a teacher that was fine-tuned on the same task."""

from .arguments import FinetuneArguments
from .finetune import FineTuning
from .result import FinetuneResult

__all__ = ["FineTuning", "FinetuneArguments", "FinetuneResult"]
