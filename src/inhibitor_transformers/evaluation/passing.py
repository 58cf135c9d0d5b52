"""How much of each key passes to each query: in a converted student, and in the softmax teacher beside it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..models.conversion import ConvertedModel
from ..models.conversion.attention import ConvertedAttention, ConvertedScalars
from ..models.conversion.recording import AttentionCall, record_attention
from ..models.conversion.softmax import softmax_probabilities


class AttentionPair(NamedTuple):
    """One attention module's call in the student and in the teacher, each within its own model.

    layer: its name for people. z: (B, H, Nq, Nk), inf where a key is not valid. values: (B, Hkv, Nk, Dv), as they are
    shrunk. signed: as in `inhibitor_attention`. probabilities: (B, H, Nq, Nk), the teacher's.
    """

    layer: str
    z: Tensor
    values: Tensor
    signed: bool
    probabilities: Tensor

    def passing(self, queries: slice = slice(None)) -> Tensor:
        """`passing_fraction` of some queries: (B, H, queries, Nk)."""
        return passing_fraction(self.z[:, :, queries], self.values, signed=self.signed)


def passing_fraction(z: Tensor, values: Tensor, *, signed: bool) -> Tensor:
    """The fraction of each key's value that inhibition leaves: Σ_d |shrink(v_jd, Z_ij)| / Σ_d |v_jd|, 0 to 1.

    z: (B, H, Nq, Nk); values: (B, Hkv, Nk, Dv), heads per group. 1 where Z is 0 (with `signed`; else what is negative
    never passes); 0 where Z exceeds every feature, where a key is not valid, and of a value of zeros. (B, H, Nq, Nk)
    float32.
    """
    v = values.float().repeat_interleave(z.shape[1] // values.shape[1], 1)
    size = v.abs().sum(-1)
    passed = v.abs() if signed else v
    # A query at a time: all together would take Nq × Nk × Dv numbers of every head.
    kept = [torch.relu(passed - z[:, :, i, :, None].float()).sum(-1) for i in range(z.shape[2])]
    left = torch.stack(kept, dim=2) if kept else z.float()
    return (left / size[:, :, None]).masked_fill((size == 0)[:, :, None] | z.isinf(), 0.0)


@torch.no_grad()
def record_pairs(
    student: PreTrainedModel, teacher: PreTrainedModel, inputs: Mapping[str, Tensor]
) -> list[AttentionPair]:
    """Every call of a converted module, in the order of a forward pass.

    student: a converted model; teacher: the softmax model that it was made from, or one like it. inputs: a batch.
    Raises ValueError if the teacher lacks a module that is converted in the student.
    """
    require_counterpart(student, teacher)
    with record_attention(teacher, student.config.record) as calls:
        teacher(**forward_arguments(teacher, inputs))
    with _recorded_scores(student) as scores:
        student(**forward_arguments(student, inputs))
    names = _layer_names(calls)
    return [
        AttentionPair(
            names[i],
            *scores[call.site.name, call.application],
            student.config.record.options.signed,
            softmax_probabilities(call.query, call.key, call.masks, call.scaling),
        )
        for i, call in enumerate(calls)
    ]


def require_counterpart(student: PreTrainedModel, teacher: PreTrainedModel) -> None:
    """Raise ValueError unless `student` is a converted model and `teacher` a softmax model with its modules."""
    if not isinstance(student, ConvertedModel):
        raise ValueError(f"{type(student).__name__} is no model made by convert(): its attention cannot be read")
    form = student.config.record.options.form
    if form != "inhibitor":
        raise ValueError(f"the student computes the baseline {form}: it has no inhibition to show")
    if isinstance(teacher, ConvertedModel):
        raise ValueError("the teacher has inhibitor attention itself: name the softmax model that was converted")
    modules = dict(teacher.named_modules())
    lacking = [site.name for site in student.config.record.sites if site.name not in modules]
    if lacking:
        raise ValueError(
            f"the teacher, a {type(teacher).__name__}, has no module {lacking[0]}, which the student "
            f"({type(student).__name__}) has converted: name the model that the student was made from"
        )


def forward_arguments(model: PreTrainedModel, inputs: Mapping[str, Tensor]) -> dict[str, Any]:
    """The inputs on the model's device, and no cache where it would make one."""
    given: dict[str, Any] = {name: tensor.to(model.device) for name, tensor in inputs.items()}
    return given | ({"use_cache": False} if "use_cache" in inspect.signature(model.forward).parameters else {})


@contextmanager
def _recorded_scores(student: PreTrainedModel) -> Iterator[dict[tuple[str, int], tuple[Tensor, Tensor]]]:
    """While inside, each call's Z and values by (module, application); heads' scores are computed whoever asks."""
    found: dict[tuple[str, int], tuple[Tensor, Tensor]] = {}
    counts: dict[str, int] = {}

    def need_scores(_: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, kwargs | {"need_scores": True}

    def keep(name: str, args: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
        application = counts.get(name, 0)
        counts[name] = application + 1
        found[name, application] = (output[1], args[2])

    hooks = []
    for module in student.modules():
        if isinstance(module, ConvertedAttention):
            hooks.append(module.register_forward_pre_hook(need_scores, with_kwargs=True))
            name = module.site.name
            hooks += [
                scalars.register_forward_hook(lambda _m, args, output, name=name: keep(name, args, output))
                for scalars in module.applications
                if isinstance(scalars, ConvertedScalars)
            ]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def _layer_names(calls: list[AttentionCall]) -> list[str]:
    """ "layer 3" where the modules' names hold one number each, all different; else by the order of calls."""
    numbers = [re.findall(r"(?<=\.)\d+(?=\.|$)", call.site.name) for call in calls]
    found = [own[0] if len(own) == 1 else "" for own in numbers]
    if all(found) and len(set(found)) == len(found):
        return [f"layer {number}" for number in found]
    return [f"layer {i}" for i in range(len(calls))]
