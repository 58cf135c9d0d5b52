"""Inhibitor attention in the place of a module's softmax: the scalars, and the function that transformers calls."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.utils.output_capturing import _active_collector

from ...attention import InhibitorScalars
from ..attention_interface import WITHOUT_EFFECT
from ..value_center import center_values
from .l1_softmax import OPTIONS, l1_softmax_attention
from .masks import compact_mask, explicit_mask, read_masks
from .sites import Options, Site
from .softmax import softmax_forward

# Names under which transformers knows the attention of converted models, by their masks.
IMPLEMENTATIONS = {"compact": "inhibitor_converted", "explicit": "inhibitor_converted_explicit"}
# What besides changes no result: masks say the window, and flash kernels alone can be deterministic or not.
_SAID_BY_MASKS = frozenset(("deterministic", "sliding_window", "output_attentions", "position_embeddings"))

_KNOWN = WITHOUT_EFFECT | _SAID_BY_MASKS


class ConvertedScalars(InhibitorScalars):
    """γ, η, δ, ρ of one application of a module, and what its scores need besides, all float32 parameters.

    key_norm, unit: (heads,), λ and u of `inhibitor_attention`. Normalized outputs have no length exponent: they are a
    sum over keys divided by another.
    bias_scale: (heads,), where scores have an additive term b: S − bias_scale · b, since a large b attracts.
    query_scale: (heads, dim), which multiplies the features of queries before the distance.
    """

    bias_scale: nn.Parameter
    query_scale: nn.Parameter
    key_norm: nn.Parameter
    unit: nn.Parameter

    def __init__(self, site: Site, options: Options) -> None:
        super().__init__(site.heads, length_reference=options.length_reference)
        self.form = options.form
        if options.key_norm:
            self.initial["key_norm"] = 0.0
        if options.normalize and options.form == "inhibitor":
            self.initial["unit"] = 1.0
            del self.length_exponent, self.initial["length_exponent"]
        self.extra: dict[str, tuple[int, ...]] = {"bias_scale": (site.heads,)} if site.has_bias else {}
        if options.query_scale:
            self.extra["query_scale"] = (site.heads, site.dim)
        for name, shape in (dict.fromkeys(self.initial, (site.heads,)) | self.extra).items():
            if name not in self._parameters:
                setattr(self, name, nn.Parameter(torch.empty(shape, dtype=torch.float32)))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Set every head to the initial values."""
        super().reset_parameters()
        for name in getattr(self, "extra", ()):  # the base class sets its own scalars first
            nn.init.ones_(getattr(self, name))

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        bias: Tensor | None = None,
        need_scores: bool = False,
        **options: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """As `InhibitorScalars`, with the additive term of the scores, (heads or 1, Nq, Nk), if they have one."""
        if "query_scale" in self.extra:
            query = query * self.query_scale[:, None].to(query.dtype)
        if bias is not None:
            options["score_bias"] = -self.bias_scale[:, None, None] * bias
        if self.form == "inhibitor":
            return super().forward(query, key, value, need_scores=need_scores, **options)
        given = options | self.as_arguments()
        return l1_softmax_attention(query, key, value, **{name: given[name] for name in OPTIONS if name in given})


class ConvertedAttention(nn.Module):
    """Attribute `inhibitor` of a converted attention module.

    applications: scalars of each time that a forward pass calls the module, or one for all.
    """

    found_unguarded = False  # in the files that its module was loaded from

    def __init__(self, site: Site, options: Options) -> None:
        super().__init__()
        self.site, self.options = site, options
        count = site.applications if options.per_application else 1
        self.applications = nn.ModuleList(ConvertedScalars(site, options) for _ in range(count))
        self.next_application = 0

    def forward(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        *,
        dropout: float = 0.0,
        is_causal: bool | None = None,
        position_bias: Tensor | None = None,
        need_scores: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Arguments of the attention interface; (B, Nq, H, Dv), and Z (B, H, Nq, Nk) if it is needed."""
        if not query.dtype == key.dtype == value.dtype:  # rotary embeddings leave autocast's precision
            query, key = query.to(value.dtype), key.to(value.dtype)
        masks = read_masks(module, query, attention_mask, is_causal, position_bias)
        if not self.site.has_bias:
            masks = masks.without_bias(self.site.name)
        # Not where queries see different keys: nor then for a single one, which has a cache behind it.
        centered = self.options.value_center == "mean" and masks.attn_mask is None and not self.site.is_causal
        shrunk = center_values(value, masks.key_padding_mask, "mean" if centered else "none")
        options: dict[str, Any] = {"signed": self.options.signed, "center": self.options.center}
        if masks.key_padding_mask is not None:
            options["key_padding_mask"] = masks.key_padding_mask
        if masks.attn_mask is not None:
            options["attn_mask"] = masks.attn_mask
        if dropout:
            options["dropout_p"] = dropout
        given = {"bias": masks.bias, "need_scores": need_scores, "is_causal": masks.is_causal}
        output, z = self._scalars()(query, key, shrunk.values, **given, **options)
        return shrunk.restore(output).transpose(1, 2), z

    def _scalars(self) -> nn.Module:
        """Those of this call. Raises RuntimeError where gradient checkpointing repeats calls in another order."""
        of_all = self.applications._modules  # before every call: a ModuleList takes its time to count
        if len(of_all) == 1:
            return of_all["0"]
        if torch._C._current_graph_task_id() != -1:  # inside a backward pass
            raise RuntimeError(
                f"{self.site.name} is applied {len(self.applications)} times with scalars for each: gradient "
                "checkpointing repeats its calls in another order; turn it off, or convert(…, per_application=False)"
            )
        chosen = self.applications[self.next_application % len(self.applications)]
        self.next_application += 1
        return chosen


def start_forward(model: nn.Module, *_: Any) -> None:
    """Hook before a model's forward pass: applications count from the first one again."""
    for module in model.modules():
        if isinstance(module, ConvertedAttention):
            module.next_application = 0


def converted_attention_forward(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    is_causal: bool | None = None,
    position_bias: Tensor | None = None,
    output_attentions: bool | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """Attention function of transformers' interface, for all modules of a converted model.

    query: (B, H, Nq, D); key, value: (B, Hkv, Nk, D), heads unrepeated. scaling: without effect, γ has it. Returns
    (B, Nq, H, Dv), and the scores Z (B, H, Nq, Nk) if `output_attentions` was asked for.

    Raises ValueError for arguments that would change the result and are not computed.
    """
    inhibitor = getattr(module, "inhibitor", None)
    if inhibitor is None:
        implementation = getattr(module, "softmax_attention", None)
        if implementation is None:
            raise ValueError(
                f"a {type(module).__name__} that the example given to convert() did not run: give it one that runs all"
            )
        given = {"scaling": scaling, "dropout": dropout, "position_bias": position_bias, "is_causal": is_causal}
        kwargs |= {name: value for name, value in given.items() if value is not None}
        return softmax_forward(implementation, module, query, key, value, attention_mask, **kwargs)
    if unknown := not_computed(kwargs):
        raise ValueError(f"inhibitor attention does not compute {', '.join(unknown)}: leave it out")
    output: tuple[Tensor, Tensor | None] = inhibitor(
        module,
        query,
        key,
        value,
        attention_mask,
        dropout=dropout,
        is_causal=is_causal,
        position_bias=position_bias,
        need_scores=bool(output_attentions) or _scores_are_kept(),
    )
    return output


def _scores_are_kept() -> bool:
    """Whether the forward pass was asked for attentions, of which some models do not tell their modules."""
    kept = None if torch.compiler.is_compiling() else _active_collector.get()
    return kept is not None and any("attentions" in name for name in kept)


def not_computed(kwargs: dict[str, Any]) -> list[str]:
    """Names of arguments of an attention function that change its result in a way that is not computed here."""
    return sorted(name for name, given in kwargs.items() if given is not None and name not in _KNOWN)


for _masks, _name in IMPLEMENTATIONS.items():
    AttentionInterface.register(_name, converted_attention_forward)
    AttentionMaskInterface.register(_name, compact_mask if _masks == "compact" else explicit_mask)
