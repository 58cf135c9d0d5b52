"""`convert`: any transformers model, by one example of its inputs, to a model with inhibitor attention."""

from __future__ import annotations

import copy
import dataclasses
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PreTrainedModel

from ..attention_interface import ATTENTION_NAME
from ..loading import require_finite
from .attention import ConvertedAttention
from .classes import converted_config_class, converted_model_class
from .discover import Discovery, discover
from .guards import register_guards
from .install import install
from .observe import run_example
from .sites import Options, Record, Site, Unconverted

logger = logging.getLogger(__name__)


def convert(
    model: PreTrainedModel,
    example: Mapping[str, Any],
    modules: Sequence[str] | None = None,
    in_place: bool = False,
    **options: Any,
) -> PreTrainedModel:
    """A model with inhibitor attention in place of softmax, of a subclass of the model's class.

    Its attention modules are found by one forward pass of the example. The scalars start at the paper's values: the
    outputs mean nothing until they are calibrated (`inhibit distill`).

    Args:
        model: any transformers model with softmax attention.
        example: one batch of its inputs, with all that its forward pass needs, such as decoder_input_ids.
        modules: names of the attention modules to convert, or of modules that hold them; None converts all that can be.
        in_place: whether `model` itself becomes the converted model, else a copy does.
        options: fields of `Options`: signed, center, value_center, per_application, length_reference, query_scale,
            key_norm, normalize, form.

    Returns the converted model in evaluation mode; `print(converted.inhibitor_report())` says what was converted.

    Raises ValueError, with the model as it was, if nothing can be converted or one of `modules` cannot, each with its
    reason; if the example does not run through the model; TypeError for what is no transformers model.
    """
    chosen = _options(options)
    _check_model(model)
    record = _record(model, discover(model, example), modules, chosen)
    trial = _apply(copy.deepcopy(model, _shared_tensors(model)), record)
    _check_every_call(trial, example, record)
    for left in record.unconverted:
        logger.warning(f"{left.name} stays softmax: {left.reason}")
    return (_apply(model, record) if in_place else copy.deepcopy(trial)).eval()


def _options(given: dict[str, Any]) -> Options:
    known = [field.name for field in dataclasses.fields(Options)]
    if unknown := sorted(given.keys() - set(known)):
        raise ValueError(f"convert() has no option {', '.join(unknown)}; it has {', '.join(known)}")
    return Options(**given)


def _check_model(model: Any) -> None:
    """Raise TypeError or ValueError for what cannot be converted whatever its attention."""
    if not isinstance(model, PreTrainedModel):
        merge = "; merge its adapters first (merge_and_unload)" if hasattr(model, "merge_and_unload") else ""
        raise TypeError(f"convert() takes a transformers model, got {type(model).__name__}{merge}")
    name = type(model).__name__
    if hasattr(model, "inhibitor_report") or model.config._attn_implementation == ATTENTION_NAME:
        raise ValueError(f"{name} has inhibitor attention already: convert the softmax model that it was made from")
    if type(model).is_remote_code():
        raise ValueError(f"{name} is code that came with a checkpoint: its converted form could not be loaded again")
    if getattr(model, "hf_quantizer", None) is not None:
        raise ValueError(f"{name} is quantized: load it unquantized (inhibit quantize works on the converted model)")
    if getattr(model, "_hf_peft_config_loaded", False):
        raise ValueError(f"{name} carries adapters: merge them first")
    if any(p.is_meta for p in model.parameters()):
        raise ValueError(f"{name} is offloaded: load it without a device_map")
    require_finite(model, name)


def _record(model: PreTrainedModel, found: Discovery, modules: Sequence[str] | None, options: Options) -> Record:
    """What is to be converted. Raises ValueError if that is nothing, or not all that was asked for."""
    wanted = _wanted(model, found, modules)
    if not wanted:
        reasons = "; ".join(f"{left.name}: {left.reason}" for left in found.unconverted[:3])
        raise ValueError(f"no attention module of {type(model).__name__} can be converted: {reasons}")
    rest = [Unconverted(site.name, "not asked for") for site in found.sites if site not in wanted]
    softmax = "eager" if model.config._attn_implementation == "eager" else "sdpa"
    # Softmax modules beside ours need a mask for every pair: ours is the only function that takes others.
    masks = "explicit" if rest or found.unconverted else found.masks
    return Record(tuple(wanted), (*rest, *found.unconverted), options, softmax, masks)


def _wanted(model: PreTrainedModel, found: Discovery, modules: Sequence[str] | None) -> list[Site]:
    if modules is None:
        return list(found.sites)
    if isinstance(modules, str):
        raise ValueError(f"modules must be a list of names, got the text {modules!r}")
    wanted: dict[str, Site] = {}
    for name in modules:
        below = [site for site in found.sites if f"{site.name}.".startswith(f"{name}.")]
        refused = [left for left in found.unconverted if f"{left.name}.".startswith(f"{name}.")]
        if refused:
            raise ValueError(f"{refused[0].name} cannot be converted: {refused[0].reason}")
        if not below:
            known = ", ".join(site.name for site in found.sites[:4])
            raise ValueError(f"no attention module of {type(model).__name__} is or lies in {name!r}; it has {known}, …")
        wanted |= {site.name: site for site in below}
    return [site for site in found.sites if site.name in wanted]


def _shared_tensors(model: PreTrainedModel) -> dict[int, Any]:
    """For `copy.deepcopy`: a copy that shares all weights."""
    return {id(t): t for t in (*model.parameters(), *model.buffers())}


def _apply(model: PreTrainedModel, record: Record) -> PreTrainedModel:
    """Convert this very model, whose class and configuration become ours."""
    base = type(model)
    model.config.__class__ = converted_config_class(type(model.config))
    model.config.inhibitor = record.as_dict()
    model.__class__ = converted_model_class(base, type(model.config))
    install(model, record)
    model._keep_in_fp32_modules_strict = {*(model._keep_in_fp32_modules_strict or ()), "inhibitor"}
    register_guards(model, base, record)
    return model


def _check_every_call(model: PreTrainedModel, example: Mapping[str, Any], record: Record) -> None:
    """Raise ValueError unless each module ran inhibitor attention as often as it had run softmax."""
    ran: Counter[str] = Counter()
    inhibitors = [module for module in model.modules() if isinstance(module, ConvertedAttention)]
    hooks = [m.register_forward_hook(lambda ours, *_: ran.update([ours.site.name])) for m in inhibitors]
    try:
        run_example(model, example)
    finally:
        for hook in hooks:
            hook.remove()
    silent = [s.name for s in record.sites if ran[s.name] != s.applications]
    if silent:
        raise ValueError(
            f"{type(model).__name__} did not run inhibitor attention in {len(silent)} of {len(record.sites)} modules "
            f"({', '.join(silent[:3])}): it does not follow transformers' attention interface; nothing was changed"
        )
