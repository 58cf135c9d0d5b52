"""How weights of converted models lie in files: one of each attention module in a shape that softmax classes refuse.

The classes of transformers know all weights by name and would compute softmax with them. So the guarded weight of each
module, (out, in), lies in files as (1, out, in): any other class says that the shapes do not match.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_checkpoint_conversion_mapping, register_checkpoint_conversion_mapping
from transformers.core_model_loading import ConversionOps

from ..saved_format import KeptConverter
from .attention import ConvertedAttention
from .sites import Record


class _Unguard(ConversionOps):
    """File to memory: (1, out, in) to (out, in), in converted modules. Marks one whose weight was not guarded."""

    @torch.no_grad()
    def convert(
        self, input_dict: dict[str, Any], source_patterns: list[str], target_patterns: list[str], **kwargs: Any
    ) -> dict[str, Tensor]:
        weight = _only(input_dict)
        inhibitor = _guarding(**kwargs)
        if inhibitor is not None and weight.dim() == 3:
            weight = weight.squeeze(0)
        elif inhibitor is not None:
            inhibitor.found_unguarded = True
        return {target_patterns[0]: weight}

    @property
    def reverse_op(self) -> ConversionOps:
        return _Guard()


class _Guard(ConversionOps):
    """Memory to file."""

    @torch.no_grad()
    def convert(
        self, input_dict: dict[str, Any], source_patterns: list[str], target_patterns: list[str], **kwargs: Any
    ) -> dict[str, Tensor]:
        weight = _only(input_dict)
        guarded = _guarding(**kwargs) is not None and weight.dim() == 2
        return {target_patterns[0]: weight.unsqueeze(0) if guarded else weight}

    @property
    def reverse_op(self) -> ConversionOps:
        return _Unguard()


def _only(tensors: dict[str, Any]) -> Tensor:
    (found,) = tensors.values()
    weight: Tensor = found[0] if isinstance(found, list) else found
    return weight


def _guarding(model: nn.Module, full_layer_name: str, **_: Any) -> ConvertedAttention | None:
    """The inhibitor attention that a weight of this name guards; None for a weight like it elsewhere."""
    module = model
    path = full_layer_name.split(".")
    for depth, part in enumerate(path):
        inhibitor = getattr(module, "inhibitor", None)
        if isinstance(inhibitor, ConvertedAttention):
            return inhibitor if ".".join(path[depth:]) == inhibitor.site.guarded else None
        module = getattr(module, part, None)  # type: ignore[assignment]
        if module is None:
            return None
    return None


def unguard_state(module: Any, state_dict: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """Hook before `load_state_dict` of a converted module: it may be given what lies in a file (Trainer does so)."""
    name = f"{prefix}{module.inhibitor.site.guarded}"
    weight = state_dict.get(name)
    if weight is not None and weight.dim() == 3:
        state_dict[name] = weight.squeeze(0)


def register_guards(model: PreTrainedModel, base: type[PreTrainedModel], record: Record) -> None:
    """Let loading and saving of the model's class convert the guarded weights of this model's modules.

    base: the class without conversion, whose conversions of weight names stay.
    """
    known = get_checkpoint_conversion_mapping(base.__name__)
    if known is None:
        known = get_checkpoint_conversion_mapping(model.config.model_type)
    weights = {f"{site.name.rpartition('.')[2]}.{site.guarded}": None for site in record.sites}
    guards = [KeptConverter(weight, weight, operations=[_Unguard()]) for weight in weights]
    register_checkpoint_conversion_mapping(type(model).__name__, [*guards, *(known or ())], overwrite=True)
    _keep_names_of_parts(model)
    loaded_with: Any = getattr(model, "_weight_conversions", None)  # which saving reverts
    if loaded_with is not None and not any(isinstance(conversion, KeptConverter) for conversion in loaded_with):
        model._weight_conversions = [*guards, *loaded_with]


def _keep_names_of_parts(model: PreTrainedModel) -> None:
    """Let models inside, whose classes are ours now, keep the conversions of weight names that their bases have."""
    for part in model.modules():
        if part is model or not hasattr(part, "inhibitor_report"):
            continue
        base = next(kind for kind in type(part).__mro__ if not hasattr(kind, "inhibitor_report"))
        if known := get_checkpoint_conversion_mapping(base.__name__):
            register_checkpoint_conversion_mapping(type(part).__name__, known, overwrite=True)


def require_guarded(model: nn.Module, source: str) -> None:
    """Raise ValueError if the files that the model was loaded from hold guarded weights in the ordinary shape."""
    if any(isinstance(m, ConvertedAttention) and m.found_unguarded for m in model.modules()):
        raise ValueError(
            f"weights of {source} were not written by save_pretrained; other classes run them as softmax attention. "
            "Load the file with load_state_dict and save_pretrained that model"
        )
