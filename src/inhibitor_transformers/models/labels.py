"""Which labels a model with a classification head tells apart, and in which order."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PretrainedConfig


def label_names(config: PretrainedConfig) -> list[str] | None:
    """Names of a model's outputs in their order; None where it has only transformers' own, LABEL_0 and so on."""
    names = [str(config.id2label.get(i, f"LABEL_{i}")) for i in range(config.num_labels)]
    return None if names == [f"LABEL_{i}" for i in range(len(names))] else names


def order_of(names: Sequence[str], among: Sequence[str]) -> list[int] | None:
    """Where each of `names` stands among others; None unless both are the same names in some order.

    Case, "-", "_" and spaces do not matter, where names are told apart without them.
    """
    for spelled in (list, _plain):
        ours, theirs = spelled(names), spelled(among)
        if len(set(ours)) == len(ours) and sorted(ours) == sorted(theirs):
            return [theirs.index(name) for name in ours]
    return None


def _plain(names: Sequence[str]) -> list[str]:
    return [name.lower().replace("-", "").replace("_", "").replace(" ", "") for name in names]
