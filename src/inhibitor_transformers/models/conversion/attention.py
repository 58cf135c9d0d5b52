"""Inhibitor attention in the place of a module's softmax: the scalars, and the function that transformers calls."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.utils.output_capturing import _active_collector

from ...attention import InhibitorScalars
from ..attention_interface import WITHOUT_EFFECT
from ..value_center import center_values
from .l1_softmax import l1_softmax_attention
from .masks import compact_mask, explicit_mask, read_masks
from .sites import Options, Site
from .softmax import softmax_forward

# Names under which transformers knows the attention of converted models, by their masks.
IMPLEMENTATIONS = {"compact": "inhibitor_converted", "explicit": "inhibitor_converted_explicit"}
# What besides changes no result: masks say the window, and flash kernels alone can be deterministic or not.
_SAID_BY_MASKS = frozenset(("deterministic", "sliding_window", "output_attentions", "position_embeddings"))
_MASKS = ("score_bias", "key_padding_mask", "attn_mask", "is_causal")
_LEAST_PASSED = 0.1  # keys: what outputs are divided by at the least


class ConvertedScalars(InhibitorScalars):
    """γ, η, δ, ρ of one application of a module, and what its scores need besides, all float32 parameters.

    bias_scale: (heads,), where scores have an additive term b: S − bias_scale · b, since a large b attracts.
    query_scale: (heads, dim), which multiplies the features of queries before the distance.
    unit: u, (key heads,), where outputs are normalized: divided by Σ_j max(1 − Z_ij/u, 0), how many keys pass. That sum
    is what becomes of one more feature of the values, u in every key.
    key_norm: λ, (key heads,): S − γ/√D · λ · Σ|k|. A distance grows with the size of the key, which products do not; it
    enters as one more feature, 0 of queries and λ · relu(limit − Σ|k|) of keys, limit being above all sizes.
    """

    bias_scale: nn.Parameter
    query_scale: nn.Parameter
    key_norm: nn.Parameter
    unit: nn.Parameter
    key_norm_limit: Tensor

    def __init__(self, site: Site, options: Options) -> None:
        shapes: dict[str, tuple[int, ...]] = {"bias_scale": (site.heads,)} if site.has_bias else {}
        if options.query_scale:
            shapes["query_scale"] = (site.heads, site.dim)
        if options.key_norm:
            shapes["key_norm"] = (site.kv_heads,)
        if options.normalize and options.form == "inhibitor":
            shapes["unit"] = (site.kv_heads,)
        self.extra: dict[str, tuple[int, ...]] = {}  # the base class sets its own scalars first
        super().__init__(site.heads, length_reference=options.length_reference)
        self.extra, self.dim, self.form = shapes, site.dim, options.form
        for name, shape in shapes.items():
            setattr(self, name, nn.Parameter(torch.empty(shape, dtype=torch.float32)))
        if "unit" in shapes:  # a sum over keys by another: no length exponent
            del self.length_exponent, self.initial["length_exponent"]
        if options.key_norm:
            self.register_buffer("key_norm_limit", torch.full((site.kv_heads,), 2.0 * site.dim))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Set every head to the initial values."""
        super().reset_parameters()
        for name in self.extra:
            nn.init.constant_(getattr(self, name), 0.0 if name == "key_norm" else 1.0)

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
        if "key_norm" in self.extra:
            query, key = self.with_key_norm(query, key, self.key_norm)
        if bias is not None:
            options["score_bias"] = -self.bias_scale[:, None, None] * bias
        if self.form == "l1_softmax":
            masks = {name: options[name] for name in _MASKS if name in options}
            return l1_softmax_attention(query, key, value, gamma=self.as_arguments()["gamma"], **masks)
        if "unit" not in self.extra:
            return super().forward(query, key, value, need_scores=need_scores, **options)
        output, z = super().forward(query, key, self.with_unit(value), need_scores=need_scores, **options)
        return self.normalized(output, self.eta), z

    def with_unit(self, value: Tensor) -> Tensor:
        """Values (B, Hkv, Nk, Dv) with the feature that counts the keys that pass."""
        unit = self.unit[:, None, None].to(value.dtype).expand(len(value), -1, value.shape[2], 1)
        return torch.cat([value, unit], -1)

    def normalized(self, sums: Tensor, eta: Tensor) -> Tensor:
        """η times the sums (B, H, Nq, Dv + 1) over how many keys pass, which the last feature counts in units."""
        unit = self.unit.repeat_interleave(sums.shape[1] // len(self.unit))[:, None, None]
        passed = (sums[..., -1:].float() / unit).clamp(min=_LEAST_PASSED)
        return sums[..., :-1] * (eta[:, None, None] / passed).to(sums.dtype)

    def as_arguments(self) -> dict[str, Any]:
        """As `InhibitorScalars`; γ makes up for the feature more that the operation divides by.

        Normalized outputs have η after the division.
        """
        arguments = super().as_arguments()
        arguments |= {"eta": 1.0} if "unit" in self.extra else {}
        return arguments | {"gamma": arguments["gamma"] * self.gamma_factor}

    @property
    def gamma_factor(self) -> float:
        """√((D + 1)/D) where scores have a feature more, else 1."""
        return math.sqrt((self.dim + 1) / self.dim) if "key_norm" in self.extra else 1.0

    def with_key_norm(self, query: Tensor, key: Tensor, key_norm: Tensor) -> tuple[Tensor, Tensor]:
        """Queries and keys with the feature that subtracts the size of keys from scores."""
        size = key.float().abs().sum(-1, keepdim=True)
        feature = key_norm[:, None, None] * torch.relu(self.key_norm_limit[:, None, None] - size)
        return nn.functional.pad(query, (0, 1)), torch.cat([key, feature.to(key.dtype)], -1)


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
        masks = read_masks(module, query, attention_mask, is_causal, position_bias)
        if not self.site.has_bias:
            masks = masks.without_bias(self.site.name)
        center = self.options.value_center if masks.attn_mask is None and not masks.is_causal else "none"
        shrunk = center_values(value, masks.key_padding_mask, center)  # type: ignore[arg-type]
        output, z = self._scalars()(
            query,
            key,
            shrunk.values,
            bias=masks.bias,
            need_scores=need_scores,
            key_padding_mask=masks.key_padding_mask,
            attn_mask=masks.attn_mask,
            is_causal=masks.is_causal,
            signed=self.options.signed,
            center=self.options.center,
            dropout_p=dropout,
        )
        return shrunk.restore(output).transpose(1, 2), z

    def _scalars(self) -> nn.Module:
        """Those of this call. Raises RuntimeError where gradient checkpointing repeats calls in another order."""
        if len(self.applications) == 1:
            return self.applications[0]
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
    return any("attentions" in name for name in kept or ())


def not_computed(kwargs: dict[str, Any]) -> list[str]:
    """Names of arguments of an attention function that change its result in a way that is not computed here."""
    known = WITHOUT_EFFECT | _SAID_BY_MASKS
    return sorted(name for name, given in kwargs.items() if given is not None and name not in known)


for _masks, _name in IMPLEMENTATIONS.items():
    AttentionInterface.register(_name, converted_attention_forward)
    AttentionMaskInterface.register(_name, compact_mask if _masks == "compact" else explicit_mask)
