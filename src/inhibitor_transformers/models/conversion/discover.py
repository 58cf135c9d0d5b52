"""Finds the attention modules of any model: one forward pass through transformers' public attention interface."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from .observe import Call, Observed, observe
from .sites import Site, Unconverted


@dataclass(frozen=True)
class Discovery:
    """What can be converted and what cannot. masks: as in `Record`."""

    sites: tuple[Site, ...]
    unconverted: tuple[Unconverted, ...]
    masks: str


def discover(model: PreTrainedModel, example: Mapping[str, Any]) -> Discovery:
    """The attention modules that a forward pass of `example` runs, the model unchanged.

    Raises ValueError if the example does not run through the model, or no call passes the interface, with what was
    seen instead.
    """
    explicit = observe(model, example, "explicit")
    if not explicit.calls:
        seen = "; ".join(f"{name} computes {what} by itself" for name, what in list(explicit.elsewhere.items())[:3])
        raise ValueError(
            f"{type(model).__name__} cannot be converted: no attention module calls transformers' attention interface "
            f"({seen or 'nothing that looks like attention ran'})"
        )
    sites, left = _sites(model, explicit)
    left += [
        Unconverted(name, f"computes {what} outside the attention interface")
        for name, what in explicit.elsewhere.items()
    ]
    return Discovery(tuple(sites), tuple(left), _choose_masks(model, example, explicit))


def _choose_masks(model: PreTrainedModel, example: Mapping[str, Any], explicit: Observed) -> str:
    """ "compact" if masks without a number per pair leave all calls the pairs they have."""
    try:
        compact = observe(model, example, "compact")
    except ValueError:  # the model does with masks what only a mask per pair allows
        return "explicit"
    pairs = zip(explicit.calls, compact.calls, strict=False)
    same = len(explicit.calls) == len(compact.calls) and all(_same_pairs(a.valid, b.valid) for a, b in pairs)
    return "compact" if same else "explicit"


def _same_pairs(a: Tensor | None, b: Tensor | None) -> bool:
    if a is None or b is None:
        return a is b
    return bool((a == b).all()) if torch.broadcast_shapes(a.shape, b.shape)[2:] == a.shape[2:] else False


def _sites(model: PreTrainedModel, observed: Observed) -> tuple[list[Site], list[Unconverted]]:
    names = {id(module): name for name, module in model.named_modules()}
    by_module: dict[int, list[Call]] = {}
    for call in observed.calls:
        by_module.setdefault(id(call.module), []).append(call)
    sites, left = [], []
    for key, calls in by_module.items():
        name, first = names.get(key, type(calls[0].module).__name__), calls[0]
        reason = next((call.reason for call in calls if call.reason), None)
        guarded = find_guarded(first.module)
        if key not in names:
            reason = "is no module of the model"
        elif len({(c.heads, c.kv_heads, c.dim, c.value_dim, c.is_causal, c.has_bias) for c in calls}) > 1:
            reason = reason or "its applications differ in shape or masks"
        elif guarded is None:
            reason = reason or "has no weight of two dimensions by which files could be guarded"
        if reason:
            left.append(Unconverted(name, reason))
            continue
        shape = (first.heads, first.kv_heads, first.dim, first.value_dim, first.is_causal, first.has_bias)
        sites.append(Site(name, type(first.module).__name__, len(calls), *shape, str(guarded)))
    return sites, left


def find_guarded(module: nn.Module) -> str | None:
    """The first weight of two dimensions below an attention module, by its name there."""
    return next((name for name, p in module.named_parameters() if p.dim() == 2 and p.is_floating_point()), None)
