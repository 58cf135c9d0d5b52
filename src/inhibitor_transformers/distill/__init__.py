"""Knowledge distillation: from a pretrained softmax encoder to an inhibitor encoder."""

from .config import DistillConfig
from .pipeline import Distillation
from .settings import ConfigError
from .teacher import Teacher

__all__ = ["ConfigError", "DistillConfig", "Distillation", "Teacher"]
