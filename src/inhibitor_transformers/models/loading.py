"""Checks that a checkpoint held the whole encoder, so that no weight is quietly re-initialised."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedModel


def check_loaded_keys(model: PreTrainedModel, info: dict[str, Any], source: str) -> None:
    """Raise ValueError unless the checkpoint filled the model.

    Args:
        model: the model just loaded.
        info: transformers' loading info (missing, unexpected and mismatched keys).
        source: name or path of the checkpoint, for the message.

    Keys of a task head may be missing or left over if the checkpoint was saved by another class.
    """
    saved_by = (model.config.architectures or [None])[0]
    other_head = saved_by != type(model).__name__
    wrong = {
        kind: sorted(
            key for key in map(_key_name, info[f"{kind}_keys"]) if not (other_head and _is_head_key(model, key))
        )
        for kind in ("missing", "unexpected", "mismatched")
    }
    found = [
        f"{len(keys)} {kind} ({', '.join(keys[:4])}{', …' if len(keys) > 4 else ''})"
        for kind, keys in wrong.items()
        if keys
    ]
    if found:
        raise ValueError(
            f"{source} does not hold the weights of {type(model).__name__}: {'; '.join(found)}. "
            "A softmax model becomes an inhibitor model through from_teacher(teacher), not from_pretrained"
        )


def _key_name(key: Any) -> str:
    return key if isinstance(key, str) else key[0]  # mismatched keys come with their two shapes


def _is_head_key(model: PreTrainedModel, key: str) -> bool:
    encoder = ("embeddings.", "transformer.")
    return not key.removeprefix(f"{model.base_model_prefix}.").startswith(encoder)
