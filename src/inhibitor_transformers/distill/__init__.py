"""Knowledge distillation: from a pretrained softmax encoder to an inhibitor encoder."""

from .config import ConfigError, DistillConfig
from .pipeline import Distillation
from .teacher import Teacher

__all__ = ["ConfigError", "DistillConfig", "Distillation", "Teacher"]
