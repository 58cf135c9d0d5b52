"""Loading, saving and guards of converted models, mixed into transformers' classes."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import torch
from transformers import CONFIG_MAPPING, PreTrainedModel

from ..loading import checked_afterwards, list_first, own_memory
from ..saved_format import check_saving
from .attention import IMPLEMENTATIONS
from .classes import use_mixins
from .configuration import ConvertedConfig
from .guards import register_guards, require_guarded
from .install import install
from .report import ConversionReport

_INHIBITOR = ".inhibitor."


class ConvertedModel(PreTrainedModel):
    """A transformers model some or all of whose attention modules compute inhibitor attention."""

    config: ConvertedConfig
    _keep_in_fp32_modules_strict = ("inhibitor",)

    def __init__(self, config: ConvertedConfig, *args: Any, **kwargs: Any) -> None:
        record = config.record  # an error before anything is built
        super().__init__(config, *args, **kwargs)
        install(self, record)
        register_guards(self, base_class(type(self)), record)

    def inhibitor_report(self) -> ConversionReport:
        """What was converted, what was not, and why; `print` shows it as a table."""
        return ConversionReport(type(self).__name__, self.config.record)

    @classmethod
    def is_custom_code(cls) -> bool:
        """False: transformers' own conversions of old weight names hold for its own modules."""
        return False

    def get_correct_attn_implementation(self, requested_attention: str | None, is_init_check: bool = False) -> str:
        """Inhibitor attention, always. Raises ValueError for any other request."""
        ours = IMPLEMENTATIONS[self.config.record.masks]
        if requested_attention not in (None, "inhibitor", *IMPLEMENTATIONS.values()):
            raise ValueError(
                f"this model computes inhibitor attention; attn_implementation={requested_attention!r} would run "
                "softmax attention with weights that were not made for it. Leave attn_implementation out"
            )
        return ours

    @classmethod
    def _can_set_attn_implementation(cls) -> bool:
        return True  # else transformers warns of a request instead of asking `get_correct_attn_implementation`

    @classmethod
    def _can_set_experts_implementation(cls) -> bool:
        return base_class(cls)._can_set_experts_implementation()  # transformers reads the source of a class's module

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """As in transformers, but weights of attention modules that the checkpoint lacks are an error."""
        wants_info, source = kwargs.pop("output_loading_info", False), str(pretrained_model_name_or_path)
        with checked_afterwards():
            model, info = super().from_pretrained(
                pretrained_model_name_or_path, *args, output_loading_info=True, **kwargs
            )
        _check_loaded(model, info, source)
        if kwargs.get("state_dict") is None:
            require_guarded(model, source)
        own_memory(model)
        return (model, info) if wants_info else model

    def save_pretrained(self, save_directory: Any, *args: Any, **kwargs: Any) -> None:
        """As in transformers, in a form that no softmax class loads.

        Raises ValueError, before anything is written, for options that know no such form, for weights that loading
        would not find under their names (adapters, parametrizations, pruning), and for a base that no Auto class knows.
        """
        options = inspect.signature(super().save_pretrained).bind(save_directory, *args, **kwargs).arguments
        check_saving(options)
        _check_savable(self, options)
        register_guards(self, base_class(type(self)), self.config.record)
        super().save_pretrained(save_directory, *args, **kwargs)


def base_class(converted: type[PreTrainedModel]) -> type[PreTrainedModel]:
    """The class that a model would have without conversion."""
    return next(kind for kind in converted.__mro__ if not issubclass(kind, ConvertedModel))


def _check_loaded(model: PreTrainedModel, info: dict[str, Any], source: str) -> None:
    """Raise ValueError unless the checkpoint filled every converted module.

    Other weights that are missing are transformers' to report: a new head, a pooler.
    """
    modules = [name for name, module in model.named_modules() if hasattr(module, "inhibitor")]
    found = {
        kind: {k if isinstance(k, str) else k[0] for k in info[f"{kind}_keys"]} for kind in ("missing", "mismatched")
    }
    wrong = {
        kind: sorted(k for k in keys if any(k.startswith(f"{m}.") for m in modules)) for kind, keys in found.items()
    }
    wrong["unexpected"] = sorted(key for key in info["unexpected_keys"] if _INHIBITOR in key)
    if any(wrong.values()):
        told = "; ".join(f"{len(keys)} {kind} ({list_first(keys)})" for kind, keys in wrong.items() if keys)
        raise ValueError(f"{source} does not hold the weights of {type(model).__name__}: {told}")


def _check_savable(model: ConvertedModel, options: dict[str, Any]) -> None:
    """Raise ValueError unless loading builds the modules whose weights are to be saved."""
    kind = base_class(type(model))
    if model.config.model_type not in CONFIG_MAPPING or kind.__module__.partition(".")[0] != "transformers":
        raise ValueError(
            f"{kind.__name__} is no model of transformers itself: its converted form could not be loaded again"
        )
    if getattr(model, "_hf_peft_config_loaded", False):
        return  # adapters are saved alone
    state = options.get("state_dict")
    if state is not None and not options.get("is_main_process", True):
        return
    with torch.device("meta"):
        fresh = type(model)(copy.deepcopy(model.config)).state_dict()
    found = model.state_dict() if state is None else state
    unknown = sorted(found.keys() - fresh.keys())
    if unknown:
        raise ValueError(
            f"{len(unknown)} weights of {type(model).__name__} could not be loaded again ({list_first(unknown)}). "
            "Merge adapters (merge_and_unload) and remove parametrizations and pruning first; nothing was written"
        )
    changed = sorted(name for name, t in found.items() if t.dim() < 3 and t.shape != fresh[name].shape)
    if changed:
        raise ValueError(f"{list_first(changed)}: shapes differ from what the configuration says; nothing was written")


use_mixins(model=ConvertedModel)
