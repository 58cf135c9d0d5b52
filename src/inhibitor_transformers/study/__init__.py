"""A study: several models fine-tuned on several tasks with several seeds, every one with the same schedule."""

from .config import StudyConfig, StudyModel
from .run import run_study
from .runs import Cell, Study

__all__ = ["Cell", "Study", "StudyConfig", "StudyModel", "run_study"]
