"""Knowledge distillation: from a pretrained softmax encoder to an inhibitor encoder."""

from ..common.settings import ConfigError
from .config import DistillConfig
from .distillation import Distillation
from .teacher.teacher import Teacher

__all__ = ["ConfigError", "DistillConfig", "Distillation", "Teacher"]
