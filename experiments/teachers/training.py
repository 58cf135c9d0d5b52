"""What the scripts that train a small teacher share: their options, and one loop."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

Batch = dict[str, Tensor]


def parser(description: str | None, *, steps: int, batch_size: int, learning_rate: float) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    made.add_argument("--output", type=Path, required=True, help="a new folder: the model and its preprocessing")
    made.add_argument("--steps", type=int, default=steps)
    made.add_argument("--batch-size", type=int, default=batch_size)
    made.add_argument("--learning-rate", type=float, default=learning_rate)
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=True, help="autocast to bfloat16")
    return made


def train(model: PreTrainedModel, batch_of: Callable[[int], Batch], options: argparse.Namespace) -> None:
    """AdamW with a linear warm-up over 5 % of the steps and a cosine to a hundredth; `batch_of(step)` has labels."""
    model.train()
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=options.learning_rate, betas=(0.9, 0.98), fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate_factor(step, options.steps))
    started, mean_loss = time.perf_counter(), 0.0
    for step in range(options.steps):
        with torch.autocast("cpu", torch.bfloat16, enabled=options.bf16):
            loss = model(**batch_of(step)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        mean_loss += (float(loss.detach()) - mean_loss) / min(step + 1, 50)
        if (step + 1) % 50 == 0:
            print(
                f"{step + 1}/{options.steps}: loss {mean_loss:.3f}, {time.perf_counter() - started:.0f} s", flush=True
            )
    model.eval()


def epochs(examples: int, count: int, seed: int) -> np.ndarray:
    """Indices of `count` examples to train on, (count,) int64: all in random order, again and again."""
    orders = [np.random.default_rng([seed, epoch]).permutation(examples) for epoch in range(-(-count // examples))]
    return np.concatenate(orders)[:count]


def learning_rate_factor(step: int, steps: int) -> float:
    """Of the greatest learning rate: up linearly over the first 5 % of the steps, then a cosine down to 0.01."""
    warmup = max(steps // 20, 1)
    if step < warmup:
        return (step + 1) / warmup
    return 0.01 + 0.99 * (1 + math.cos(math.pi * (step - warmup) / max(steps - warmup, 1))) / 2
