"""Watches what flows through the modules of an encoder while it reads texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ...common.progress import track
from ...models.architectures import attention_layers
from .texts import Batch

Watcher = Callable[..., None]


@torch.no_grad()
def read_texts(
    model: PreTrainedModel, batches: Sequence[Batch], watched: Mapping[nn.Module, Watcher], *, before: bool
) -> None:
    """Let `model` read `batches`; each watched module's watcher is called every time it runs.

    before: with (module, inputs, valid); otherwise with (module, inputs, output, valid). valid: (B, N) bool, the tokens
    that are no padding.
    """
    encoder = model.base_model
    valid: list[Tensor] = []

    def hook(watcher: Watcher) -> Callable[..., None]:
        return lambda *arguments: watcher(*arguments, valid[-1])

    register = "register_forward_pre_hook" if before else "register_forward_hook"
    handles = [getattr(module, register)(hook(watcher)) for module, watcher in watched.items()]
    try:
        for batch in track(batches, "watching activations", unit="batches"):
            inputs: dict[str, Any] = {name: batch[name] for name in ("input_ids", "attention_mask")}
            if model.config.to_dict().get("type_vocab_size") and "token_type_ids" in batch:
                inputs["token_type_ids"] = batch["token_type_ids"]
            valid.append(batch["attention_mask"].bool())
            encoder(**inputs)
    finally:
        for handle in handles:
            handle.remove()


def watch_attention(
    model: PreTrainedModel, batches: Sequence[Batch], add: Callable[[str, Tensor, Tensor, Tensor, Tensor], None]
) -> None:
    """Let `model` read `batches`; `add` gets an attention layer's name, q, k, v (B, H, N, D) and valid (B, N) bool."""
    heads = model.config.num_attention_heads
    projected: dict[str, list[Tensor]] = {}

    def watch(name: str) -> Watcher:
        def keep(_module: nn.Module, _inputs: Any, output: Tensor, valid: Tensor) -> None:
            found = projected.setdefault(name, [])
            found.append(output.unflatten(-1, (heads, -1)).transpose(1, 2))
            if len(found) == 3:  # q, k and v of one batch, in this order
                q, k, v = projected.pop(name)
                add(name, q, k, v, valid)

        return keep

    watched = {
        projection: watch(layer.name)
        for layer in attention_layers(model)
        for projection in (layer.query, layer.key, layer.value)
    }
    read_texts(model, batches, watched, before=False)
