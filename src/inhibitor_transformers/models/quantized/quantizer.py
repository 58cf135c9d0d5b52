"""Lets `from_pretrained` and `save_pretrained` of transformers handle quantized inhibitor models."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.quantizers.auto import register_quantization_config, register_quantizer
from transformers.quantizers.base import HfQuantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from ...attention.integer.qparams import BITS
from ..architectures import attention_layers
from .modules import put_empty

METHOD = "inhibitor-integers"
# Fields of the model's configuration that the quantization parameters were chosen for.
_CALIBRATED = ("inhibitor_center", "inhibitor_value_center", "inhibitor_signed", "inhibitor_length_reference")


@register_quantization_config(METHOD)
@dataclass
class InhibitorIntegersConfig(QuantizationConfigMixin):
    """What is quantized: attention with `bits` (3 to 6, 8 or 16), and with 8 bits linear layers and word embeddings.

    Written by quantization: `features`, the number of each layer's features after splitting, and `calibrated_for`, what
    the quantization parameters were chosen for, by name.
    """

    bits: int = 8
    linears: bool = True
    embeddings: bool = False
    quant_method: Any = METHOD
    calibrated_for: dict[str, Any] | None = None
    features: list[int] | None = None

    def __post_init__(self) -> None:
        if type(self.bits) is not int or self.bits not in BITS:
            raise ValueError(f"bits must be one of {list(BITS)}, got {self.bits!r}")
        for name in ("linears", "embeddings"):
            if type(getattr(self, name)) is not bool:
                raise ValueError(f"{name} must be true or false, got {getattr(self, name)!r}")
        if self.quant_method != METHOD:
            raise ValueError(f"quant_method must be {METHOD!r}, got {self.quant_method!r}")


@register_quantizer(METHOD)
class InhibitorIntegersQuantizer(HfQuantizer):
    """Builds the quantized modules before their weights are loaded."""

    requires_calibration = True  # a float checkpoint becomes quantized by deploy.quantize, not by loading
    quantization_config: InhibitorIntegersConfig

    def update_dtype(self, dtype: torch.dtype | None) -> torch.dtype:
        if dtype not in (None, torch.float32):
            raise ValueError(
                f"a quantized model computes in float32 between its integers; dtype={dtype} is not possible"
            )
        return torch.float32

    def _process_model_before_weight_loading(self, model: PreTrainedModel, **kwargs: Any) -> None:
        config = self.quantization_config
        asked, made_for = _calibration_settings(model, config), config.calibrated_for or {}
        if other := [name for name, value in asked.items() if made_for.get(name) != value]:
            told = "; ".join(f"{name}={made_for.get(name)!r}, not {asked[name]!r}" for name in other)
            raise ValueError(f"this model was calibrated for {told}: quantize the float model anew")
        put_empty(
            model,
            bits=config.bits,  # type: ignore[arg-type]
            features=_features(model, config),
            quantized_linears=config.linears,
            quantized_embeddings=config.embeddings,
        )

    def _process_model_after_weight_loading(self, model: PreTrainedModel, **kwargs: Any) -> PreTrainedModel:
        return model.requires_grad_(False)  # as `quantize` leaves it: a gradient would be an error

    def is_serializable(self) -> bool:
        return True

    @property
    def is_trainable(self) -> bool:
        return False


def _features(model: PreTrainedModel, config: InhibitorIntegersConfig) -> list[int]:
    """The features of each layer after splitting. Raises ValueError where a checkpoint does not say them."""
    layers = attention_layers(model)
    dim = model.config.dim // model.config.n_heads
    if config.features is None:
        raise ValueError(
            "this model was quantized with a weight for each feature, which integer attention has no more: quantize "
            "the float model anew (`inhibit quantize MODEL OUT --text …`)"
        )
    if len(config.features) != len(layers) or any(type(f) is not int or f < dim for f in config.features):
        raise ValueError(f"features must be {len(layers)} numbers of at least {dim}, got {config.features!r}")
    return config.features


def mark_quantized(model: PreTrainedModel, config: InhibitorIntegersConfig) -> None:
    """Say of a model whose modules were replaced what loading would say of it."""
    config = replace(config, calibrated_for=_calibration_settings(model, config))
    quantizer = InhibitorIntegersQuantizer(config, pre_quantized=True)
    model.hf_quantizer = quantizer
    model.is_quantized = True
    model.quantization_method = config.quant_method
    quantizer.postprocess_model(model)


def _calibration_settings(model: PreTrainedModel, config: InhibitorIntegersConfig) -> dict[str, Any]:
    return {"bits": config.bits} | {name: getattr(model.config, name) for name in _CALIBRATED}
