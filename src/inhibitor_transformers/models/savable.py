"""Checks before a model is written that loading it will give the same model."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from .architectures import STUDENT

_OURS = f"{__name__.partition('.')[0]}."
# Attributes of modules that change outputs and are read from the configuration only when the model is built.
_SETTINGS = {"length_reference": "inhibitor_length_reference", "eps": "layer_norm_eps"}


def check_savable(model: PreTrainedModel, options: dict[str, Any]) -> None:
    """Raise ValueError unless loading would build the modules whose weights are to be saved.

    Args:
        model: one of our models, or of a class that inherits from ours: its encoders are checked then.
        options: of `save_pretrained`; a `state_dict` among them is what is checked.

    Adapters that transformers saves alone (`model.add_adapter`) are no weights of the model.
    """
    if getattr(model, "_hf_peft_config_loaded", False):
        return
    state = options.get("state_dict")
    if state is None:
        state = model.state_dict()
    elif not state or not options.get("is_main_process", True):
        return  # the process that writes has the weights
    for prefix, part in _built_by_configuration(model):
        fresh = _built_anew(part, model)
        found = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        _check_names(part, found, fresh)
        _check_shapes(found, fresh)
        _check_settings(part, fresh)


def _built_by_configuration(model: PreTrainedModel) -> Iterator[tuple[str, PreTrainedModel]]:
    """(prefix, part) of each outermost part that is of a class of ours: the configuration says what it is made of."""
    seen: list[str] = []
    for name, module in model.named_modules():
        prefix = f"{name}." if name else ""
        ours = isinstance(module, PreTrainedModel) and _own_class(module).__module__.startswith(_OURS)
        if ours and not any(prefix.startswith(outer) for outer in seen):
            seen.append(prefix)
            yield prefix, module


def _own_class(module: nn.Module) -> type[Any]:
    return next(kind for kind in type(module).__mro__ if not kind.__module__.startswith("torch."))  # not FSDP's


def _built_anew(part: PreTrainedModel, model: PreTrainedModel) -> PreTrainedModel:
    """What loading builds, without memory."""
    quantizer = getattr(model, "hf_quantizer", None)
    with torch.device("meta"):
        fresh: PreTrainedModel = _own_class(part)(copy.deepcopy(part.config))
        if quantizer is not None:
            quantizer.preprocess_model(fresh)
    return fresh


def _check_names(part: PreTrainedModel, found: dict[str, Tensor], fresh: PreTrainedModel) -> None:
    expected = fresh.state_dict().keys()
    unknown = sorted(found.keys() - expected)
    lacking = sorted(expected - found.keys() - part.all_tied_weights_keys.keys())
    wrong = {"no module that loading builds knows": unknown, "missing": lacking}
    if any(wrong.values()):
        told = "; ".join(f"{len(names)} {kind} ({', '.join(names[:3])})" for kind, names in wrong.items() if names)
        raise ValueError(
            f"these weights of {type(part).__name__} could not be loaded again: {told}. Merge adapters "
            "(merge_and_unload) and remove parametrizations and pruning first; nothing was written"
        )


def _check_shapes(found: dict[str, Tensor], fresh: PreTrainedModel) -> None:
    for name, expected in fresh.state_dict().items():
        if name not in found:
            continue
        shape = tuple(found[name].shape)
        if len(shape) == 3 and name.endswith(f"{STUDENT.layer.query}.weight"):  # as it lies in files
            shape = (shape[0] * shape[1], shape[2])
        if shape != expected.shape:
            raise ValueError(
                f"{name} is {shape} in the model, the configuration says {tuple(expected.shape)}: make them agree; "
                "nothing was written"
            )


def _check_settings(part: PreTrainedModel, fresh: PreTrainedModel) -> None:
    modules = dict(part.named_modules())
    for name, built in fresh.named_modules():
        module = modules.get(name)
        for attribute, field in _SETTINGS.items():
            if hasattr(built, attribute) and getattr(module, attribute, None) != getattr(built, attribute):
                _disagree(f"{name}.{attribute}", getattr(module, attribute, None), field, getattr(built, attribute))
        if name.endswith("activation") and type(module) is not type(built):
            _disagree(name, type(module).__name__, "activation", part.config.activation)


def _disagree(name: str, value: Any, field: str, configured: Any) -> None:
    raise ValueError(
        f"{name} is {value} in the model, {field} is {configured} in its configuration, which is read only when a "
        "model is built: make them agree; nothing was written"
    )
