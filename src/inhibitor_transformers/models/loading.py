"""What loading owes its user: no weight quietly re-initialized or NaN, and the saved model's outputs bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import logging

from .architectures import STUDENT

logger = logging.get_logger(__name__)

_ALIGNMENT = 64  # bytes, of every tensor that torch allocates on a CPU
_WHERE = ("cache_dir", "force_download", "local_files_only", "revision", "subfolder", "token")
_checked_afterwards: ContextVar[bool] = ContextVar("checked_afterwards", default=False)


@contextmanager
def checked_afterwards() -> Iterator[None]:
    """While inside, our own `from_pretrained` loads, which knows all keys at the end; else a model around ours may."""
    token = _checked_afterwards.set(True)
    try:
        yield
    finally:
        _checked_afterwards.reset(token)


def is_checked_afterwards() -> bool:
    """Whether `checked_afterwards` is at work."""
    return _checked_afterwards.get()


def refuse_new_weights(encoder: nn.Module) -> None:
    """Raise ValueError if a checkpoint has filled an encoder in part, whatever model it is loaded in.

    Called where weights are initialized, which for a model around ours is all that is ours of its `from_pretrained`.
    Transformers has marked by then what it took from the checkpoint. An encoder of which it took nothing is new, like
    any part of a model.
    """
    if is_checked_afterwards():
        return
    state = encoder.state_dict(keep_vars=True)
    new = sorted(name for name, t in state.items() if not (t.is_meta or getattr(t, "_is_hf_initialized", False)))
    if new and len(new) < len(state):
        if has_joined_heads(encoder):
            raise ValueError(_unguarded("this checkpoint"))
        raise ValueError(
            f"the checkpoint does not hold the weights of the {type(encoder).__name__} in this model: "
            f"{len(new)} missing ({list_first(new)})"
        )


def has_joined_heads(model: nn.Module) -> bool:
    """Whether the files that the model was loaded from hold query projections in an unguarded shape."""
    return any(getattr(module, "found_joined_heads", False) for module in model.modules())


def check_heads_were_split(model: PreTrainedModel, source: str) -> None:
    """Raise ValueError if the files that the model was loaded from hold query projections in an unguarded shape."""
    if has_joined_heads(model):
        raise ValueError(_unguarded(source))


def _unguarded(source: str) -> str:
    return (
        f"weights of {source} were not written by save_pretrained; other classes run them as softmax attention. "
        "Make them anew, or load the file with load_state_dict and save_pretrained that model"
    )


def find_saver(source: Any, model: PreTrainedModel, options: dict[str, Any]) -> str | None:
    """The class that saved `source`, by its own `config.json`; None if it does not say.

    Args:
        source: name or path of the checkpoint, or None.
        model: what was loaded from it.
        options: of `from_pretrained`; a `config` given in Python says nothing of who saved the weights.
    """
    if options.get("config") is None:
        return (model.config.architectures or [None])[0]
    if source is None:
        return None
    try:
        fields, _ = PreTrainedConfig.get_config_dict(source, **{k: options[k] for k in _WHERE if k in options})
    except OSError:  # there is none: weights alone
        return None
    return (fields.get("architectures") or [None])[0]


def check_loaded_keys(model: PreTrainedModel, info: dict[str, Any], source: str, saved_by: str | None) -> None:
    """Raise ValueError unless the checkpoint filled the model.

    Args:
        model: the model just loaded.
        info: transformers' loading info (missing, unexpected and mismatched keys).
        source: name or path of the checkpoint, for the message.
        saved_by: the class that saved it; None, unknown, counts as the model's own.

    Keys of a task head may be missing or left over if the checkpoint was saved by another class, and may have another
    shape, which transformers lets pass only at `ignore_mismatched_sizes=True`. Head weights that were made for
    another task are named in a warning.
    """
    other_head = saved_by not in (None, type(model).__name__)
    keys = {kind: {_key_name(key) for key in info[f"{kind}_keys"]} for kind in ("missing", "unexpected", "mismatched")}
    wrong = {
        kind: sorted(k for k in found if not (_is_head_key(model, k) and (other_head or kind == "mismatched")))
        for kind, found in keys.items()
    }
    if any(wrong.values()):
        found = "; ".join(f"{len(some)} {kind} ({list_first(some)})" for kind, some in wrong.items() if some)
        is_softmax = any(".inhibitor." in key for key in wrong["missing"])
        hint = "; a softmax model becomes an inhibitor model through from_teacher(teacher)" if is_softmax else ""
        raise ValueError(f"{source} does not hold the weights of {type(model).__name__}: {found}{hint}")
    if other_head:
        anew = keys["missing"] | keys["mismatched"]
        if reused := sorted(key for key, _ in model.named_parameters() if _is_head_key(model, key) and key not in anew):
            logger.warning(f"{type(model).__name__} takes over weights of a {saved_by}: {list_first(reused)}")


@torch.no_grad()
def own_memory(model: PreTrainedModel) -> None:
    """Move weights out of the memory-mapped checkpoint file, where they are not aligned.

    Matrix kernels add in an order that depends on alignment: outputs would differ from the saved model's in the last
    bit.
    """
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.device.type == "cpu" and tensor.data_ptr() % _ALIGNMENT:
            tensor.data = tensor.data.clone()


def require_finite(model: nn.Module, what: str) -> None:
    """Raise ValueError naming the first parameters and saved buffers of `model` with a NaN or an infinity.

    what: the model in the message. Weights that are not loaded (on the meta device) are not looked at.
    """
    bad = [name for name, tensor in model.state_dict().items() if not _is_finite(tensor)]
    if bad:
        raise ValueError(f"{what} has weights that are NaN or infinite, in {len(bad)} tensor(s): {list_first(bad, 3)}")


def _is_finite(tensor: object) -> bool:
    if not isinstance(tensor, Tensor) or not tensor.is_floating_point() or tensor.is_meta:
        return True
    return bool(torch.isfinite(tensor if tensor.element_size() > 1 else tensor.float()).all())  # float8 cannot say


def list_first(keys: list[str], count: int = 4) -> str:
    """The first of the keys, for a message."""
    return ", ".join(keys[:count]) + (", …" if len(keys) > count else "")


def _key_name(key: Any) -> str:
    return key if isinstance(key, str) else key[0]  # mismatched keys come with their two shapes


def _is_head_key(model: PreTrainedModel, key: str) -> bool:
    encoder = ("embeddings.", f"{STUDENT.layers.partition('.')[0]}.")
    return not key.removeprefix(f"{model.base_model_prefix}.").startswith(encoder)
