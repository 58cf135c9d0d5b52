"""Puts scalars into the attention modules of a model, and the classes and names that make them count."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from torch import nn
from transformers import PreTrainedModel

from .attention import IMPLEMENTATIONS, ConvertedAttention, start_forward
from .classes import converted_config_class, converted_model_class
from .guards import unguard_state
from .observe import configurations
from .sites import Record


def install(model: PreTrainedModel, record: Record) -> None:
    """Make `model` run inhibitor attention in all modules of the record, and all models inside it say so.

    Raises ValueError if the model lacks one of them.
    """
    modules = dict(model.named_modules())
    prefix = f"{model.base_model_prefix}."
    for site in record.sites:
        module = modules.get(find_name(site.name, modules, prefix))
        if module is None:
            raise ValueError(f"{type(model).__name__} has no module {site.name}, which is converted")
        module.inhibitor = ConvertedAttention(site, record.options).to(next(module.parameters()).device)
        module.register_load_state_dict_pre_hook(unguard_state)
    for left in record.unconverted:
        module = modules.get(find_name(left.name, modules, prefix))
        if module is not None:
            module.softmax_attention = record.softmax
    _adopt(model, record)


def _adopt(model: PreTrainedModel, record: Record) -> None:
    """Give all parts of the model that hold converted modules our classes and the name of our attention."""
    several = record.options.per_application and any(site.applications > 1 for site in record.sites)
    parts = dict(converted_parts(model))
    for path, part in parts.items():
        if several:
            part.register_forward_pre_hook(start_forward)
        if getattr(part.config, "inhibitor", None) is None or part.config is not model.config:
            part.config.inhibitor = _below(record, path).as_dict()
        if not hasattr(type(part.config), "record"):
            part.config.__class__ = converted_config_class(type(part.config))
        if not hasattr(part, "inhibitor_report"):
            part.__class__ = converted_model_class(type(part), type(part.config))
        for config in configurations(part):
            config._attn_implementation_internal = IMPLEMENTATIONS[record.masks]


def _below(record: Record, path: str) -> Record:
    """The part of a record that lies below a module, with names as seen from there."""
    if not path:
        return record
    prefix = f"{path}."
    sites = [replace(s, name=s.name.removeprefix(prefix)) for s in record.sites if s.name.startswith(prefix)]
    rest = [replace(x, name=x.name.removeprefix(prefix)) for x in record.unconverted if x.name.startswith(prefix)]
    return replace(record, sites=tuple(sites), unconverted=tuple(rest))


def converted_parts(model: nn.Module) -> Iterator[tuple[str, PreTrainedModel]]:
    """(path, part) of the model and the models in it that hold a converted module, outermost first."""
    for path, part in model.named_modules():
        if isinstance(part, PreTrainedModel) and any(isinstance(m, ConvertedAttention) for m in part.modules()):
            yield path, part


def find_name(name: str, modules: dict[str, nn.Module], prefix: str) -> str:
    """Where a module of the record is in a model with another head: with or without the base model's prefix."""
    candidates = (name, prefix + name, name.removeprefix(prefix))
    return next((found for found in candidates if found in modules), name)
