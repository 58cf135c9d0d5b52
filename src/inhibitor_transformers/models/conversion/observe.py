"""One forward pass of any model, watched: every call of transformers' attention interface, and softmax outside it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from transformers import AttentionInterface, AttentionMaskInterface, PretrainedConfig, PreTrainedModel

from .attention import not_computed
from .masks import CallMasks, compact_mask, explicit_mask, read_masks
from .softmax import additive, own_function, plain_softmax

_DISCOVERY = {"compact": "inhibitor_discovery_compact", "explicit": "inhibitor_discovery"}
# By which a module's attention may differ from softmax(scaling q·k + bias) v, in units of its size.
_TOLERANCE = 5e-3


@dataclass
class Call:
    """One call of the attention interface; valid: which pairs count, None where masks cannot be read."""

    module: nn.Module
    heads: int
    kv_heads: int
    dim: int
    value_dim: int
    valid: Tensor | None
    is_causal: bool
    has_bias: bool
    reason: str | None  # why inhibitor attention cannot take its place


@dataclass
class Observed:
    """What one forward pass showed. elsewhere: modules that compute softmax over pairs outside the interface."""

    calls: list[Call] = field(default_factory=list)
    elsewhere: dict[str, str] = field(default_factory=dict)


_observed: list[Observed] = []  # of the discoveries at work


def observe(model: PreTrainedModel, example: Mapping[str, Any], masks: str) -> Observed:
    """One forward pass of `example`; masks: "compact" or "explicit". Raises ValueError if it fails."""
    observed = Observed()
    _observed.append(observed)
    try:
        with implementation(model, _DISCOVERY[masks]), _SoftmaxElsewhere(model, observed):
            run_example(model, example)
    finally:
        _observed.remove(observed)
    return observed


@torch.no_grad()
def run_example(model: PreTrainedModel, example: Mapping[str, Any]) -> None:
    """One forward pass, in evaluation mode and without a cache; the model's modes are then as they were.

    Raises ValueError if it fails, with the first line of why.
    """
    if not isinstance(example, Mapping):
        raise ValueError(f"example must be one batch of inputs by name, got {type(example).__name__}")
    inputs = dict(example)
    if "use_cache" in inspect.signature(model.forward).parameters:
        inputs.setdefault("use_cache", False)
    training = [(module, module.training) for module in model.modules()]
    try:
        model.eval()(**inputs)
    except Exception as error:
        told = str(error).strip().split("\n")[0]
        raise ValueError(f"the example does not run through {type(model).__name__}: {told}") from error
    finally:
        for module, mode in training:
            module.training = mode


@contextmanager
def implementation(model: PreTrainedModel, name: str) -> Iterator[None]:
    """While inside, all modules of the model look up their attention under `name`.

    Set on configurations, since `set_attn_implementation` refuses, with a warning only, models that it does not know.
    """
    before = [(config, config._attn_implementation_internal) for config in configurations(model)]
    try:
        for config, _ in before:
            config._attn_implementation_internal = name
        yield
    finally:
        for config, old in before:
            config._attn_implementation_internal = old


def configurations(model: nn.Module) -> list[PretrainedConfig]:
    """Every configuration object that modules of a model hold, each once."""
    found = {id(c): c for m in model.modules() if isinstance(c := getattr(m, "config", None), PretrainedConfig)}
    return list(found.values())


def _watch(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    is_causal: bool | None = None,
    position_bias: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """Attention function of a discovery: notes the call, computes softmax attention."""
    shape = (query.shape[1], key.shape[1], key.shape[3], value.shape[3])
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    try:
        masks = read_masks(module, query, attention_mask, is_causal, position_bias)
    except ValueError as error:
        _observed[-1].calls.append(Call(module, *shape, None, False, False, str(error)))
        return value.new_zeros(*query.shape[:3], value.shape[3]).transpose(1, 2), None
    output = plain_softmax(query, key, value, masks, scaling)
    reason = None
    if unknown := not_computed(kwargs):
        reason = f"its attention takes {', '.join(unknown)}, which inhibitor attention does not compute"
    elif not query.is_meta:
        theirs = _own_output(
            module, query, key, value, masks, attention_mask, position_bias, kwargs | {"scaling": scaling}
        )
        if theirs is not None and not _close(theirs, output, masks.valid(query.shape[2], key.shape[2])):
            reason = "its attention is not softmax of scaled products and a bias: it computes something more"
    pairs = masks.valid(query.shape[2], key.shape[2])
    _observed[-1].calls.append(Call(module, *shape, pairs, _is_causal(pairs), masks.bias is not None, reason))
    return output.to(value.dtype), None


def _is_causal(pairs: Tensor) -> bool:
    """Whether no query sees a key after its own, the last query being at the last key."""
    queries, keys = pairs.shape[2:]
    return queries > 1 and not bool(pairs.triu(keys - queries + 1).any())


def _own_output(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    masks: CallMasks,
    attention_mask: Tensor | None,
    position_bias: Tensor | None,
    kwargs: dict[str, Any],
) -> Tensor | None:
    """What the module's own eager attention gives; None where it has none."""
    own = own_function(module)
    if own is None:
        return None
    mask = attention_mask
    if mask is None or mask.dtype == torch.bool:
        mask = additive(masks.valid(query.shape[2], key.shape[2]), query.dtype)
    given = kwargs | {"dropout": 0.0}
    if position_bias is not None:
        given["position_bias"] = position_bias
    return own(module, query, key, value, mask, **given)[0]


def _close(theirs: Tensor, ours: Tensor, valid: Tensor) -> bool:
    """Whether two outputs (B, Nq, H, Dv) agree on queries that see a key."""
    seen = valid.any(-1).transpose(1, 2).unsqueeze(-1)
    difference = ((theirs.float() - ours) * seen).norm()
    return bool(difference <= _TOLERANCE * (ours * seen).norm() + 1e-6)


class _SoftmaxElsewhere(TorchFunctionMode):
    """Notes modules that compute softmax over (…, queries, keys), or call torch's attention, outside the interface."""

    def __init__(self, model: nn.Module, observed: Observed) -> None:
        super().__init__()
        self.model, self.observed = model, observed
        self.stack: list[str] = []
        self.hooks = ExitStack()

    def __enter__(self) -> Any:
        for name, module in self.model.named_modules():
            enter = module.register_forward_pre_hook(lambda *_, name=name: self.stack.append(name))
            leave = module.register_forward_hook(lambda *_: self.stack.pop() and None, always_call=True)
            self.hooks.callback(enter.remove)
            self.hooks.callback(leave.remove)
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        self.hooks.close()
        super().__exit__(*error)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        is_softmax = name in ("softmax", "_softmax") and args and args[0].dim() == 4
        if (is_softmax or name == "scaled_dot_product_attention") and not _inside_watch():
            where = self.stack[-1] if self.stack else ""
            self.observed.elsewhere[where] = "softmax attention"
        return func(*args, **(kwargs or {}))


def _inside_watch() -> bool:
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_code is _watch.__code__:
            return True
        frame = frame.f_back
    return False


for _masks, _name in _DISCOVERY.items():
    AttentionInterface.register(_name, _watch)
    AttentionMaskInterface.register(_name, compact_mask if _masks == "compact" else explicit_mask)
