"""A study: several models fine-tuned on several tasks with several seeds, all with the same schedule."""

from .config import StudyConfig, StudyModel
from .run import run_study
from .runs import Run, Study

__all__ = ["Run", "Study", "StudyConfig", "StudyModel", "run_study"]
