"""What can be trained."""

from __future__ import annotations

from transformers import PretrainedConfig

from ...common.settings import require


def require_trainable(config: PretrainedConfig, what: str) -> None:
    """Raise ConfigError for a quantized model: its whole numbers have no gradient."""
    quantized = getattr(config, "quantization_config", None) is not None
    require(not quantized, f"{what} is quantized, which cannot be trained; train what it was made from, then quantize")
