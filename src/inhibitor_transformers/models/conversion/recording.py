"""What attention modules are given and compute: of a softmax teacher, and of a converted student fed the same.

Recorded inside the attention function, after rotary embeddings and norms, whatever the architecture.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from .attention import ConvertedAttention
from .masks import CallMasks, compact_mask, explicit_mask, read_masks
from .observe import implementation
from .sites import Record, Site

_RECORDING = {"compact": "inhibitor_recording", "explicit": "inhibitor_recording_explicit"}


class AttentionCall(NamedTuple):
    """One call of a module, in the order of a forward pass.

    site: the module. application: which of its calls, from 0. args, kwargs: what the module's forward was given.
    query: (B, H, Nq, D); key, value: (B, Hkv, Nk, D): what its attention function was given, with masks and scaling.
    output: (B, Nq, H, Dv), what that returned.
    """

    site: Site
    application: int
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    query: Tensor
    key: Tensor
    value: Tensor
    masks: CallMasks
    scaling: float
    output: Tensor


@dataclass
class _Recorder:
    sites: dict[int, Site]
    calls: list[AttentionCall] = field(default_factory=list)
    inputs: dict[int, tuple[tuple[Any, ...], dict[str, Any]]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)


_recorder: ContextVar[_Recorder | None] = ContextVar("recorder", default=None)


@contextmanager
def record_attention(model: PreTrainedModel, record: Record) -> Iterator[list[AttentionCall]]:
    """While inside, each call of a module in `record.sites` by the softmax `model` is appended to the list.

    model: what was converted, or one like it. Its masks are made as the converted model's, so that the recorded inputs
    fit both. Run it with `use_cache=False`.
    """
    modules = dict(model.named_modules())
    recorder = _Recorder({id(modules[site.name]): site for site in record.sites})
    hooks = [
        modules[site.name].register_forward_pre_hook(_keep_inputs, with_kwargs=True, prepend=True)
        for site in record.sites
    ]
    token = _recorder.set(recorder)
    try:
        with implementation(model, _RECORDING[record.masks]):
            yield recorder.calls
    finally:
        _recorder.reset(token)
        for hook in hooks:
            hook.remove()


def _keep_inputs(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    recorder = _recorder.get()
    if recorder is not None:
        recorder.inputs[id(module)] = (args, kwargs)


def _recorded_softmax(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    is_causal: bool | None = None,
    position_bias: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """Attention function of a recorded model: softmax, with compact masks as well."""
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    masks = read_masks(module, query, attention_mask, is_causal, position_bias)
    output = _softmax(query, key, value, masks, scaling)
    recorder = _recorder.get()
    site = recorder.sites.get(id(module)) if recorder else None
    if recorder and site:
        application = recorder.counts.get(site.name, 0)
        recorder.counts[site.name] = application + 1
        args, inputs = recorder.inputs[id(module)]
        recorder.calls.append(AttentionCall(site, application, args, inputs, query, key, value, masks, scaling, output))
    return output, None


def _softmax(query: Tensor, key: Tensor, value: Tensor, masks: CallMasks, scaling: float) -> Tensor:
    """(B, Nq, H, Dv) by torch's own kernel."""
    valid: Tensor | None = None
    if masks.is_causal or masks.key_padding_mask is not None or masks.attn_mask is not None:
        valid = masks.valid(query.shape[2], key.shape[2])
    if masks.bias is not None:
        bias = masks.bias[None].to(query.dtype)
        valid = bias if valid is None else bias.masked_fill(~valid, -torch.inf)
    output = nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=valid, scale=scaling, enable_gqa=query.shape[1] != key.shape[1]
    )
    return output.nan_to_num(0.0).transpose(1, 2) if valid is not None else output.transpose(1, 2)


def replay(student: PreTrainedModel, calls: Sequence[AttentionCall]) -> list[Tensor]:
    """The student's attention outputs, (B, Nq, H, Dv), each module fed what the teacher's module was given."""
    return [seen.output for seen in _replayed(student, calls)]


def replay_inputs(student: PreTrainedModel, calls: Sequence[AttentionCall]) -> list[tuple[Tensor, Tensor, Tensor]]:
    """The student's queries (B, H, Nq, D), keys and values (B, Hkv, Nk, D), each module fed as in `replay`."""
    return [(seen.query, seen.key, seen.value) for seen in _replayed(student, calls)]


class _Seen(NamedTuple):
    query: Tensor
    key: Tensor
    value: Tensor
    output: Tensor


def _replayed(student: PreTrainedModel, calls: Sequence[AttentionCall]) -> Iterator[_Seen]:
    modules: dict[str, Any] = dict(student.named_modules())
    for call in calls:
        module = modules[call.site.name]
        seen: list[_Seen] = []
        inhibitor: ConvertedAttention = module.inhibitor
        inhibitor.next_application = call.application
        hook = inhibitor.register_forward_hook(
            lambda _module, given, output, seen=seen: seen.append(_Seen(given[1], given[2], given[3], output[0]))
        )
        try:
            module(*call.args, **call.kwargs)
        finally:
            hook.remove()
        yield seen[0]


for _masks, _name in _RECORDING.items():
    AttentionInterface.register(_name, _recorded_softmax)
    AttentionMaskInterface.register(_name, compact_mask if _masks == "compact" else explicit_mask)
