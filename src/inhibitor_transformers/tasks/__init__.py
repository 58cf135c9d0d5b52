"""Tasks and texts to train and evaluate on, from the Hub or from local files.

Imports of datasets, scikit-learn and scipy wait until something is loaded or measured.
"""

from .data import TaskData, encode, load_task
from .holdout import hold_out
from .metrics import METRICS, Metric
from .prose import english_on_this_machine
from .registry import TASKS, Task, get_task
from .scoring import chance_level, compute_metrics
from .text import load_pairs, load_texts, split_held_out

__all__ = [
    "METRICS",
    "TASKS",
    "Metric",
    "Task",
    "TaskData",
    "chance_level",
    "compute_metrics",
    "encode",
    "english_on_this_machine",
    "get_task",
    "hold_out",
    "load_pairs",
    "load_task",
    "load_texts",
    "split_held_out",
]
