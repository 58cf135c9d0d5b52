"""Configurations of converted models: those of the base, with a record of what was converted.

In memory a converted Llama's configuration is a LlamaConfig of a subclass, `model_type` and all. In `config.json` it is
of type "inhibitor" and holds the base's fields one level down, where no other configuration looks for them:

    {"model_type": "inhibitor", "architectures": […], "hidden_size": "inhibitor attention: …",
     "inhibitor": {"config": {"model_type": "llama", …}, "sites": […], …}}

The sentence stands where the base's configuration expects a number: that refuses it, and shows it.
"""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path
from types import NoneType
from typing import Any, get_args

from transformers import CONFIG_MAPPING, AutoConfig, PretrainedConfig

from ..inhibidistilbert.configuration_inhibidistilbert import NOTICE
from .classes import converted_config_class, use_mixins
from .sites import Record

MODEL_TYPE = "inhibitor"
_NUMBERS = {int, float, bool, NoneType}
_KEPT = ("architectures", "dtype", "transformers_version")


class ConvertedConfig(PretrainedConfig):
    """Mixed into a base's configuration. inhibitor: `Record.as_dict()`; None only in one that is being built."""

    inhibitor: dict[str, Any] | None = None

    @property
    def record(self) -> Record:
        """What was converted. Raises ValueError for a configuration that does not say."""
        if self.inhibitor is None:
            raise ValueError(
                f"{type(self).__name__} does not say what is converted: make the model with convert(model, example)"
            )
        return Record.from_dict(self.inhibitor)

    @classmethod
    def get_config_dict(cls, *args: Any, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """As in transformers, unpacked."""
        fields, unused = super().get_config_dict(*args, **kwargs)
        return unpack(fields), unused

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """As in transformers, packed or not."""
        return super().from_dict(unpack(config_dict), **kwargs)

    @classmethod
    def from_json_file(cls, json_file: Any) -> Any:
        """As in transformers, from a file that `to_json_file` wrote."""
        return cls.from_dict(json.loads(Path(json_file).read_text(encoding="utf-8")))

    def to_json_file(self, json_file_path: Any, use_diff: bool = True) -> None:
        """Writes the packed form."""
        fields = pack(json.loads(self.to_json_string(use_diff=use_diff)), type(self))
        Path(json_file_path).write_text(json.dumps(fields, indent=2, sort_keys=True) + "\n", encoding="utf-8")


class InhibitorConfig(PretrainedConfig):
    """What `AutoConfig` finds behind "inhibitor": makes the configuration of the base with its record."""

    model_type = MODEL_TYPE

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Raises ValueError for a base that this release of transformers does not know."""
        fields = unpack(config_dict)
        base = fields.get("model_type")
        if base not in CONFIG_MAPPING or base == MODEL_TYPE:
            raise ValueError(f"a converted {base!r} model: this transformers does not know {base!r}")
        return converted_config_class(CONFIG_MAPPING[base]).from_dict(fields, **kwargs)


def pack(fields: dict[str, Any], kind: type[PretrainedConfig]) -> dict[str, Any]:
    """The fields of a converted configuration as `config.json` holds them."""
    fields = copy.deepcopy(fields)
    record = fields.pop("inhibitor")
    kept = {name: fields[name] for name in _KEPT if name in fields}
    notice = dict.fromkeys(_number_fields(kind)[:1], NOTICE)
    return kept | notice | {"model_type": MODEL_TYPE, "inhibitor": record | {"config": fields}}


def unpack(fields: dict[str, Any]) -> dict[str, Any]:
    """What `pack` packed; anything else as it is."""
    if fields.get("model_type") != MODEL_TYPE:
        return fields
    record = fields.get("inhibitor")
    if not (isinstance(record, dict) and isinstance(record.get("config"), dict)):
        raise ValueError("config.json of a converted model is damaged: it does not hold its base's configuration")
    record = copy.deepcopy(record)
    base: dict[str, Any] = record.pop("config")
    kept = {name: fields[name] for name in _KEPT if name in fields}
    return base | kept | {"inhibitor": record}


def _number_fields(kind: type[PretrainedConfig]) -> list[str]:
    """Fields that hold numbers alone: a text there is refused. Those that all configurations share check nothing."""
    shared = {f.name for f in dataclasses.fields(PretrainedConfig)}
    fields = [f for f in dataclasses.fields(kind) if f.name not in shared]
    return [f.name for f in fields if f.type in _NUMBERS or _NUMBERS.issuperset(get_args(f.type) or (None,))]


use_mixins(config=ConvertedConfig)
AutoConfig.register(MODEL_TYPE, InhibitorConfig)
