"""How long an input a model can read."""

from __future__ import annotations

from transformers import PretrainedConfig


def max_tokens(config: PretrainedConfig) -> int | None:
    """Most tokens that a model has positions for; None where its configuration sets no limit."""
    positions = getattr(config, "max_position_embeddings", None)
    if positions is None:
        return None
    return int(positions) - (config.pad_token_id + 1 if "roberta" in config.model_type else 0)


def require_positions(config: PretrainedConfig, length: int, what: str) -> None:
    """Raise ValueError if inputs of `length` tokens, which `what` asks for, are longer than the model can read."""
    limit = max_tokens(config)
    if limit is not None and length > limit:
        raise ValueError(f"{what}: {length} tokens are more than this {config.model_type} model can read ({limit})")
