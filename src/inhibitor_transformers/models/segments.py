"""Says when the two texts of a pair reach a model as one."""

from __future__ import annotations

import logging
from functools import cache

from transformers import PretrainedConfig, PreTrainedTokenizerBase

logger = logging.getLogger(__name__)


def warn_of_lost_segments(config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase, what: str) -> None:
    """Warn, once, if `tokenizer` gives pairs without `token_type_ids` to a model that has an embedding per segment.

    The model then takes both texts for segment 0, which is right only if it was trained so. `what` has the pairs.
    """
    segments = getattr(config, "type_vocab_size", None) or 0
    if segments > 1 and "token_type_ids" not in tokenizer.model_input_names:
        _warn_once(
            f"{what}: the tokenizer gives no token_type_ids, so this {config.model_type} with {segments} segments "
            "takes both texts of a pair for segment 0; use the tokenizer that it was trained with"
        )


@cache
def _warn_once(message: str) -> None:
    logger.warning(message)
