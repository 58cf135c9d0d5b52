"""What loading owes its user: no weight quietly re-initialised, and the saved model's outputs to the bit."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.utils import logging

logger = logging.get_logger(__name__)

_ALIGNMENT = 64  # bytes, of every tensor that torch allocates on a CPU


def check_loaded_keys(model: PreTrainedModel, info: dict[str, Any], source: str) -> None:
    """Raise ValueError unless the checkpoint filled the model.

    Args:
        model: the model just loaded.
        info: transformers' loading info (missing, unexpected and mismatched keys).
        source: name or path of the checkpoint, for the message.

    Keys of a task head may be missing or left over if the checkpoint was saved by another class, and may have another
    shape, which transformers lets pass only at `ignore_mismatched_sizes=True`. Head weights that were made for
    another task are named in a warning.
    """
    saved_by = (model.config.architectures or [None])[0]
    other_head = saved_by != type(model).__name__
    keys = {kind: {_key_name(key) for key in info[f"{kind}_keys"]} for kind in ("missing", "unexpected", "mismatched")}
    wrong = {
        kind: sorted(k for k in found if not (_is_head_key(model, k) and (other_head or kind == "mismatched")))
        for kind, found in keys.items()
    }
    if any(wrong.values()):
        found = "; ".join(f"{len(some)} {kind} ({_some(some)})" for kind, some in wrong.items() if some)
        is_softmax = any(".inhibitor." in key for key in wrong["missing"])
        hint = "; a softmax model becomes an inhibitor model through from_teacher(teacher)" if is_softmax else ""
        raise ValueError(f"{source} does not hold the weights of {type(model).__name__}: {found}{hint}")
    if other_head and saved_by is not None:
        anew = keys["missing"] | keys["mismatched"]
        if reused := sorted(key for key, _ in model.named_parameters() if _is_head_key(model, key) and key not in anew):
            logger.warning(f"{type(model).__name__} takes over weights of a {saved_by}: {_some(reused)}")


@torch.no_grad()
def own_memory(model: PreTrainedModel) -> None:
    """Move weights out of the memory-mapped checkpoint file, where they are not aligned.

    Matrix kernels add in an order that depends on alignment: outputs would differ from the saved model's in the last
    bit.
    """
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.device.type == "cpu" and tensor.data_ptr() % _ALIGNMENT:
            tensor.data = tensor.data.clone()


def _some(keys: list[str]) -> str:
    return ", ".join(keys[:4]) + (", …" if len(keys) > 4 else "")


def _key_name(key: Any) -> str:
    return key if isinstance(key, str) else key[0]  # mismatched keys come with their two shapes


def _is_head_key(model: PreTrainedModel, key: str) -> bool:
    encoder = ("embeddings.", "transformer.")
    return not key.removeprefix(f"{model.base_model_prefix}.").startswith(encoder)
