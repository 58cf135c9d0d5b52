"""Configuration of InhibiDistilBERT."""

# No `from __future__ import annotations` here: @strict checks types only where they are not strings.
import json
import math
from pathlib import Path
from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import DistilBertConfig

from ...attention.call import ModelCenter
from ...attention.scalars import INITIAL

FORMAT = 2
# In files, where other configurations expect a number or a truth value: they refuse it, and show it.
NOTICE = "inhibitor attention: import inhibitor_transformers and load this with AutoModel; no other class computes it"
_EARLIER = (
    "this model was saved in an earlier format, which other classes run as softmax attention: "
    "make it anew, with from_teacher, `inhibit convert`, `inhibit distill` or `inhibit quantize`"
)
_SINUSOIDAL = "inhibitor_sinusoidal_pos_embds"  # in files: its value, whose own place holds the sentence


@strict
class InhibiDistilBertConfig(DistilBertConfig):
    r"""
    DistilBERT's configuration and everything that changes the function of inhibitor attention.

    inhibitor_gamma, inhibitor_eta, inhibitor_delta, inhibitor_length_exponent (`float`):
        Values that the scalars γ, η, δ, ρ of every head start at; trained values are weights, not configuration.
    inhibitor_length_reference (`float`, defaults to 64):
        n₀: the number of keys at which the length factor (n₀/n)^ρ is one.
    inhibitor_signed (`bool`, defaults to `True`):
        softshrink(v, z) if true, max(v − z, 0) otherwise.
    inhibitor_center (`str`, defaults to `"mean"`):
        What is subtracted from a row of scores: its `"mean"` over the valid keys, or `"none"`.
    inhibitor_value_center (`str`, defaults to `"none"`):
        `"mean"` subtracts the mean over the valid keys from the values before they are shrunk and adds it to the sum.
    type_vocab_size (`int`, defaults to 0):
        Number of segments (`token_type_ids`) with an embedding of their own; 0 ignores `token_type_ids`, as
        DistilBERT does.
    layer_norm_eps (`float`, defaults to 1e-12):
        Epsilon of every LayerNorm (1e-5 in a student of RoBERTa).
    inhibitor_format (`int`, *optional*, becomes 2):
        The form in which `save_pretrained` writes; a folder of another form is refused.

    `config.json` holds a sentence as `hidden_size` (the number stands as `dim`) and `sinusoidal_pos_embds` (the truth
    value stands as `inhibitor_sinusoidal_pos_embds`), so that the configurations of softmax models refuse it. Inside
    the configuration of a larger model, and in `to_dict()`, it is `sinusoidal_pos_embds` alone.

    Raises ValueError for a number outside its range, and for an `inhibitor_…` field that is not known, since what it
    changes would be lost; StrictDataclassFieldValidationError, as all of transformers, for a wrong type or choice.
    """

    model_type = "inhibidistilbert"

    inhibitor_gamma: float | int = INITIAL["gamma"]
    inhibitor_eta: float | int = INITIAL["eta"]
    inhibitor_delta: float | int = INITIAL["delta"]
    inhibitor_length_exponent: float | int = INITIAL["length_exponent"]
    inhibitor_length_reference: float | int = 64
    inhibitor_signed: bool = True
    inhibitor_center: ModelCenter = "mean"
    inhibitor_value_center: ModelCenter = "none"
    type_vocab_size: int = 0
    layer_norm_eps: float = 1e-12
    inhibitor_format: int | None = None
    sinusoidal_pos_embds: Any = False  # a truth value; the sentence only while it is read

    def __post_init__(self, **kwargs: Any) -> None:
        self._read_notice(kwargs)
        if self.inhibitor_format is None:
            # Inside a larger model's configuration, what was written has these names; nobody writes them in Python.
            if kwargs.get("model_type", "_name_or_path" in kwargs and self.model_type) == self.model_type:
                raise ValueError(_EARLIER)
            self.inhibitor_format = FORMAT
        if self.inhibitor_format != FORMAT:
            raise ValueError(f"inhibitor_format {self.inhibitor_format} is not known here, only {FORMAT}")
        if not 0 < self.inhibitor_length_reference < math.inf:
            raise ValueError(f"inhibitor_length_reference must be positive, got {self.inhibitor_length_reference}")
        for name in INITIAL:
            value = getattr(self, f"inhibitor_{name}")
            if not math.isfinite(value):
                raise ValueError(f"inhibitor_{name} must be a finite number, got {value}")
        if self.type_vocab_size < 0:
            raise ValueError(f"type_vocab_size must be 0 or more, got {self.type_vocab_size}")
        if not self.layer_norm_eps >= 0:
            raise ValueError(f"layer_norm_eps must be 0 or more, got {self.layer_norm_eps}")
        if unknown := sorted(name for name in kwargs if name.startswith("inhibitor_")):
            raise ValueError(f"InhibiDistilBertConfig has no field {', '.join(unknown)}; a newer release may")
        self.output_attentions = kwargs.pop("output_attentions", False)
        super().__post_init__(**kwargs)

    def _read_notice(self, written: dict[str, Any]) -> None:
        """Put in place of the sentence what it stands for."""
        if written.get("hidden_size") == NOTICE:
            del written["hidden_size"]  # dim has it
        if self.sinusoidal_pos_embds == NOTICE:
            self.sinusoidal_pos_embds = written.pop(_SINUSOIDAL, False)
        if not isinstance(self.sinusoidal_pos_embds, bool):
            raise ValueError(f"sinusoidal_pos_embds must be true or false, got {self.sinusoidal_pos_embds!r}")

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """As in transformers. Raises ValueError for the `config.json` of an earlier format, which names none."""
        if config_dict.get("model_type") == cls.model_type and "inhibitor_format" not in config_dict:
            raise ValueError(_EARLIER)
        return super().from_dict(config_dict, **kwargs)

    @classmethod
    def from_json_file(cls, json_file: Any) -> Any:
        """As in transformers, from a file that `to_json_file` wrote."""
        return cls.from_dict(cls.get_config_dict(json_file)[0])

    def to_dict(self) -> dict[str, Any]:
        """As in transformers, with the sentence: a configuration around this one is written with what this returns."""
        return super().to_dict() | {"sinusoidal_pos_embds": NOTICE, _SINUSOIDAL: self.sinusoidal_pos_embds}

    def to_json_file(self, json_file_path: Any, use_diff: bool = True) -> None:
        """Writes the configuration with the sentence that keeps other configurations from reading it."""
        fields = json.loads(self.to_json_string(use_diff=use_diff)) | {"hidden_size": NOTICE}
        Path(json_file_path).write_text(json.dumps(fields, indent=2, sort_keys=True) + "\n", encoding="utf-8")

    @property
    def output_attentions(self) -> bool:
        """False: transformers neither saves nor obeys it here; scores are asked for in the call."""
        return False

    @output_attentions.setter
    def output_attentions(self, value: bool | None) -> None:
        if value:
            raise ValueError("output_attentions=True belongs in the call, model(..., output_attentions=True)")
