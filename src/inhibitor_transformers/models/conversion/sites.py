"""What one attention module of a model is, as its calls show: enough to compute inhibitor attention in its place."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from ...attention.call import CENTERS


@dataclass(frozen=True)
class Site:
    """One attention module whose calls go through transformers' attention interface.

    name: of the module in the model that is converted.
    kind: the module's class.
    applications: how often one forward pass calls it; 1 but for models that share a layer's weights (ALBERT).
    heads, kv_heads: of the queries, and of keys and values.
    dim, value_dim: features of a head's keys and values.
    is_causal: whether each query sees only the keys up to its own.
    has_bias: whether scores have an additive term, such as T5's relative positions.
    guarded: the weight, by its name below the module, that files hold in a shape which softmax classes refuse.
    """

    name: str
    kind: str
    applications: int
    heads: int
    kv_heads: int
    dim: int
    value_dim: int
    is_causal: bool
    has_bias: bool
    guarded: str


@dataclass(frozen=True)
class Unconverted:
    """An attention module that stays softmax, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Options:
    """How all converted modules of a model compute.

    signed, center: as in `inhibitor_attention`. value_center: "mean" shrinks values about their mean over the keys
    where all queries of a module see the same keys, else about zero; "none" always does so.
    per_application: whether a module that is applied several times has scalars for each time.
    length_reference: n₀, in keys. query_scale: whether each head scales the features of its queries by learned factors
    before the distance, which rotary embeddings keep from being folded into projections. key_norm:
    whether a part of each key's size Σ|k| is subtracted from its scores. normalize: whether outputs are divided by how
    many keys pass, as the rows of a softmax sum to one. form: "inhibitor", or the baseline "l1_softmax"
    (`l1_softmax_attention`), which has γ and λ alone.
    """

    signed: bool = True
    center: str = "min"
    value_center: str = "none"
    per_application: bool = True
    length_reference: float = 64.0
    query_scale: bool = False
    key_norm: bool = True
    normalize: bool = True
    form: str = "inhibitor"

    def __post_init__(self) -> None:
        if self.form not in ("inhibitor", "l1_softmax"):
            raise ValueError(f'form must be "inhibitor" or "l1_softmax", got {self.form!r}')
        for name, allowed in (("center", CENTERS), ("value_center", ("mean", "none"))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {list(allowed)}, got {getattr(self, name)!r}")
        for name in ("signed", "per_application", "query_scale", "key_norm", "normalize"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} must be true or false, got {getattr(self, name)!r}")
        if not (isinstance(self.length_reference, int | float) and 0 < self.length_reference < float("inf")):
            raise ValueError(f"length_reference must be a positive number of keys, got {self.length_reference!r}")


@dataclass(frozen=True)
class Record:
    """What a converted model's configuration holds beside its base's.

    softmax: the attention implementation of modules that stay softmax. masks: "compact", or "explicit" where the model
    needs a mask for every pair of query and key.
    """

    sites: tuple[Site, ...]
    unconverted: tuple[Unconverted, ...]
    options: Options
    softmax: str
    masks: str

    def as_dict(self) -> dict[str, Any]:
        """As `config.json` holds it, and as it is read again: with lists."""
        fields = dataclasses.asdict(self)
        return fields | {name: list(fields[name]) for name in ("sites", "unconverted")}

    @classmethod
    def from_dict(cls, found: dict[str, Any]) -> Record:
        """Raises ValueError for what `as_dict` did not write."""
        try:
            return cls(
                tuple(Site(**site) for site in found["sites"]),
                tuple(Unconverted(**module) for module in found["unconverted"]),
                Options(**found["options"]),
                found["softmax"],
                found["masks"],
            )
        except (TypeError, KeyError) as error:
            raise ValueError(f"this is no record of a converted model; a newer release may know it: {error}") from error
