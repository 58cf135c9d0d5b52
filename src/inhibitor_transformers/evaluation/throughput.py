"""Measures sequences per second of several models: in one process, interleaved, as medians."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping

import torch
from transformers import PreTrainedModel

from ..common.progress import track


@torch.no_grad()
def sequences_per_second(
    models: Mapping[str, PreTrainedModel], batch: int, length: int, *, rounds: int = 7
) -> dict[str, float]:
    """Median over `rounds` of batch / wall seconds, for each model on the same random tokens without padding.

    The models take turns, so that a change in the machine's speed meets all of them.
    """
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, min(m.config.vocab_size for m in models.values()), (batch, length), generator=generator)
    seconds: dict[str, list[float]] = {name: [] for name in models}
    turns = [(turn, name) for turn in range(rounds + 1) for name in models]
    for turn, name in track(turns, "measuring speed"):
        model = models[name]
        inputs = {"input_ids": ids.to(model.device), "attention_mask": torch.ones_like(ids).to(model.device)}
        encoder = model.base_model.eval()
        _wait(model.device)
        start = time.perf_counter()
        encoder(**inputs)
        _wait(model.device)
        if turn:  # the first turn warms up
            seconds[name].append(time.perf_counter() - start)
    return {name: batch / statistics.median(times) for name, times in seconds.items()}


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
