"""How models lie in files: so that no class but ours loads them, and none runs the weights as softmax attention.

DistilBERT's classes know all our weights by name, and would compute softmax with them. Two things in a folder stop
them, and each alone would:

- `config.json` holds a sentence where other configurations expect a number (see `InhibiDistilBertConfig`);
- the query projection of each layer lies under its key as (heads, head size, in). In memory it is an ordinary
  nn.Linear with a weight of (heads · head size, in), of which any other class says that the shapes do not match.

The second holds for a folder that is loaded with a configuration given in Python, and for the weight files alone.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers.conversion_mapping import register_checkpoint_conversion_mapping
from transformers.core_model_loading import ConversionOps, WeightConverter

from .architectures import STUDENT
from .loading import is_checked_afterwards

_QUERY = STUDENT.layer.query
_IN_ATTENTION = _QUERY.rpartition(".")[2]
_UNGUARDED = {
    "save_original_format": (True, "save_original_format=False"),
    "distributed_checkpoint": (False, "distributed_checkpoint=True"),
}


def register_saved_shapes(model_type: str) -> None:
    """Let `from_pretrained` and `save_pretrained` of this model type convert the query projections."""
    weight = f"{_QUERY}.weight"
    converter = KeptConverter(weight, weight, operations=[_JoinHeads()])
    register_checkpoint_conversion_mapping(model_type, [converter], overwrite=True)


class KeptConverter(WeightConverter):
    """Serves `save_pretrained` also of a model whose checkpoint held nothing of ours, where transformers drops it."""

    __slots__ = ()

    def was_used(self) -> bool:
        return True


class _JoinHeads(ConversionOps):
    """File to memory: (heads, head size, in) to (heads · head size, in). Marks the layer if it was joined already.

    Transformers chooses it by the configuration, which may have been given to another class: that one gets what lies in
    the file, which does not fit. A model around ours gets none of what was joined already: `refuse_new_weights` then
    finds that it lacks the weight. An error raised here would be lost in transformers' report.
    """

    @torch.no_grad()
    def convert(
        self, input_dict: dict[str, Any], source_patterns: list[str], target_patterns: list[str], **kwargs: Any
    ) -> dict[str, Tensor]:
        weight = _only(input_dict)
        attention = _attention(**kwargs)
        if hasattr(attention, "inhibitor"):
            if weight.dim() == 2:
                attention.found_joined_heads = True
                if not is_checked_afterwards():
                    return {}
            elif weight.dim() == 3:
                weight = weight.flatten(0, 1)
        return {target_patterns[0]: weight}

    @property
    def reverse_op(self) -> ConversionOps:
        return _SplitHeads()


class _SplitHeads(ConversionOps):
    """Memory to file."""

    @torch.no_grad()
    def convert(
        self, input_dict: dict[str, Any], source_patterns: list[str], target_patterns: list[str], **kwargs: Any
    ) -> dict[str, Tensor]:
        weight = _only(input_dict)
        if weight.dim() == 2:
            weight = weight.unflatten(0, (_attention(**kwargs).n_heads, -1))
        return {target_patterns[0]: weight}

    @property
    def reverse_op(self) -> ConversionOps:
        return _JoinHeads()


def _attention(model: nn.Module, full_layer_name: str, **_: Any) -> Any:
    """The layer that the query projection of this name belongs to; the model may be a larger one around ours."""
    return model.get_submodule(full_layer_name.rpartition(f".{_IN_ATTENTION}.")[0])


def _only(tensors: dict[str, Any]) -> Tensor:
    (found,) = tensors.values()
    weight: Tensor = found[0] if isinstance(found, list) else found
    return weight


def join_saved_heads(module: nn.Module, state_dict: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """Hook before `load_state_dict` of an attention layer: it may be given what lies in a file (Trainer does so)."""
    name = f"{prefix}{_IN_ATTENTION}.weight"
    weight = state_dict.get(name)
    if weight is not None and weight.dim() == 3:
        state_dict[name] = weight.flatten(0, 1)


def check_saving(options: dict[str, Any]) -> None:
    """Raise ValueError for options of `save_pretrained` that would write what other classes load."""
    for name, (guarded, written) in _UNGUARDED.items():
        if options.get(name, guarded) is not guarded:
            raise ValueError(
                f"{written} would write weights that other classes load and run as softmax attention: leave it out"
            )
