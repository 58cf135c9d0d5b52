"""The stages of a distillation, one file each; a stage that is added here can be named in a run's YAML."""

from .align_attention import AlignAttention
from .align_hidden import AlignHidden
from .base import Stage
from .calibrate import Calibrate
from .masked_lm import MaskedLM

STAGES: dict[str, type[Stage]] = {stage.name: stage for stage in (Calibrate, AlignAttention, AlignHidden, MaskedLM)}
