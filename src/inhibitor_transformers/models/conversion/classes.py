"""Classes of converted models, made from those of transformers: a subclass each, registered with the Auto classes.

`InhibitorLlamaForCausalLM` is a LlamaForCausalLM, with all its methods, heads and `generate`.
"""

from __future__ import annotations

import copyreg
from typing import Any

import transformers
from transformers import PretrainedConfig, PreTrainedModel
from transformers.models.auto import modeling_auto
from transformers.models.auto.auto_factory import _BaseAutoModelClass
from transformers.models.auto.feature_extraction_auto import FEATURE_EXTRACTOR_MAPPING
from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING
from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING
from transformers.utils.output_capturing import _CAN_RECORD_REGISTRY

_PREFIX = "Inhibitor"
_PROCESSING = (FEATURE_EXTRACTOR_MAPPING, IMAGE_PROCESSOR_MAPPING, PROCESSOR_MAPPING, TOKENIZER_MAPPING)
# What a configuration and a model of ours add to those of transformers; their modules say so below theirs.
_mixins: dict[str, Any] = {}
_made: dict[Any, Any] = {}  # by the class of transformers: one class each, whoever asks


class _Made(type):
    """The type of classes made here, by which pickle knows them."""


def use_mixins(**mixins: Any) -> None:
    """Have classes made from now on inherit from the mixin `config` or `model`."""
    _mixins.update(mixins)


def converted_config_class(base: Any) -> type[PretrainedConfig]:
    """The configuration class of converted models of `base`, known to all Auto classes that know `base`."""
    if base in _made:
        known: type[PretrainedConfig] = _made[base]
        return known
    made: Any = _Made(f"{_PREFIX}{base.__name__}", (_mixins["config"], base), {"__module__": __name__})
    _made[base] = made
    for auto in vars(modeling_auto).values():
        if isinstance(auto, type) and issubclass(auto, _BaseAutoModelClass) and auto is not _BaseAutoModelClass:
            _register_models(auto, base, made)
    for mapping in _PROCESSING:
        if base in mapping:
            mapping.register(made, mapping[base], exist_ok=True)
    found: type[PretrainedConfig] = made
    return found


def _register_models(auto: Any, base: Any, made: type[PretrainedConfig]) -> None:
    mapping = getattr(auto, "_model_mapping", None)
    if mapping is None or base not in mapping:
        return
    found = mapping[base]
    # One whose configuration is another class reads a part of this.
    models = [model for model in (found if isinstance(found, tuple) else (found,)) if model.config_class is base]
    converted = tuple(converted_model_class(model, made) for model in models)
    if converted:
        mapping.register(made, converted if isinstance(found, tuple) else converted[0], exist_ok=True)


def converted_model_class(base: Any, config: Any) -> type[PreTrainedModel]:
    """The class of converted models of `base`, a model class, whose configuration is of class `config`."""
    if base in _made:
        known: type[PreTrainedModel] = _made[base]
        return known
    fields = {"__module__": __name__, "config_class": config, "__doc__": f"A {base.__name__} with inhibitor attention."}
    made: Any = _Made(f"{_PREFIX}{base.__name__}", (_mixins["model"], base), fields)
    _made[base] = made
    # Transformers notes when a model is built, which a converted one was as another class, which outputs it can give.
    _CAN_RECORD_REGISTRY[made.__new__(made)] = made._can_record_outputs
    found: type[PreTrainedModel] = made
    return found


def converted_class_named(name: str) -> type[PreTrainedModel] | None:
    """The class of converted models of this name, "InhibitorGPT2LMHeadModel"; None for a name that is no such class."""
    base: Any = getattr(transformers, name.removeprefix(_PREFIX), None) if name.startswith(_PREFIX) else None
    kind = base if isinstance(base, type) else type(None)
    if not issubclass(kind, PreTrainedModel) or base.config_class is None:
        return None
    return converted_model_class(base, converted_config_class(base.config_class))


def _reduce(made: Any) -> tuple[Any, tuple[Any, ...]]:
    """For pickle: the class anew from its base, in a process that may not have made it."""
    base = next(kind for kind in made.__mro__ if not isinstance(kind, _Made) and kind not in _mixins.values())
    if issubclass(made, PretrainedConfig):
        return converted_config_class, (base,)
    return converted_model_class, (base, made.config_class)


copyreg.pickle(_Made, _reduce)
