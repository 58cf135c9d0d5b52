"""How models are trained: real numbers first, then integers that are aligned with them.

The same for every kind of attention: the same data, steps, loss and number of restarts, chosen on validation.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ....common.progress import track
from .model import Models

Batch = Callable[[], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Recipe:
    """restarts: models trained beside each other. batch: examples of each model a step.

    real_steps, steps: in real numbers, and in integers. distillation: the weight of the divergence from the real
    model's logits, at `temperature`. sums: the weight of the mean squared error of attention's sums, relative to their
    variance. average: the decay of the moving average of weights, which is what is kept.
    """

    restarts: int = 4
    real_steps: int = 600
    steps: int = 2000
    batch: int = 64
    learning_rate: float = 1e-2
    quantized_learning_rate: float = 1e-2
    weight_decay: float = 1e-3
    label_smoothing: float = 0.05
    distillation: float = 1.0
    temperature: float = 2.0
    sums: float = 0.3
    average: float = 0.99


RECIPES = {
    "digits": Recipe(),
    "sst2": Recipe(restarts=4, real_steps=1500, steps=3000, batch=128),
}


def train_real(models: Models, batch: Batch, recipe: Recipe) -> Models:
    """Trained in real numbers; the averaged weights."""
    models.train().initialize(batch()[0])
    loss, steps = _cross_entropy(recipe), recipe.real_steps
    return _train(models, batch, loss, recipe, steps, recipe.learning_rate, "training in real numbers")


def train_quantized(models: Models, batch: Batch, recipe: Recipe) -> Models:
    """In integers, from models that were trained in real numbers and stay as they are; the averaged weights."""
    teachers, students = models.requires_grad_(False).eval(), copy.deepcopy(models).train()
    students.requires_grad_(True)
    students.value.center.requires_grad_(students.value.has_bias)
    students.begin_quantized(batch()[0])
    loss, rate = _aligned(teachers, recipe), recipe.quantized_learning_rate
    return _train(students, batch, loss, recipe, recipe.steps, rate, "training in integers")


Loss = Callable[[Models, Tensor, Tensor], Tensor]


def _cross_entropy(recipe: Recipe) -> Loss:
    def loss(models: Models, x: Tensor, labels: Tensor) -> Tensor:
        logits = models.class_logits(models(x)[0])
        return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), label_smoothing=recipe.label_smoothing)

    return loss


def _aligned(teachers: Models, recipe: Recipe) -> Loss:
    def loss(models: Models, x: Tensor, labels: Tensor) -> Tensor:
        with torch.no_grad():
            real, real_sums = teachers(x)
            target = torch.softmax(teachers.class_logits(real) / recipe.temperature, -1)
        logits, sums = models(x)
        logits = models.class_logits(logits)
        entropy = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), label_smoothing=recipe.label_smoothing)
        student = torch.log_softmax(logits / recipe.temperature, -1)
        divergence = F.kl_div(student, target, reduction="none").sum(-1).mean() * recipe.temperature**2
        error = (sums - real_sums).square().mean() / real_sums.var()
        return entropy + recipe.distillation * divergence + recipe.sums * error

    return loss


def _train(
    models: Models, batch: Batch, loss: Loss, recipe: Recipe, steps: int, learning_rate: float, what: str
) -> Models:
    averaged = copy.deepcopy(models.train()).requires_grad_(False)
    trained = [p for p in models.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=learning_rate, weight_decay=recipe.weight_decay, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5 + 0.5 * math.cos(math.pi * step / steps))
    restarts = len(models.head)
    for step in track(range(steps), what, unit="steps"):
        optimizer.zero_grad()
        (restarts * loss(models, *batch())).backward()  # each restart has the gradient of its own loss
        optimizer.step()
        schedule.step()
        # At first the average would keep what training has left behind.
        decay = min(recipe.average, step / (step + 10))
        for mean, value in zip(averaged.parameters(), models.parameters(), strict=True):
            mean.lerp_(value.detach(), 1 - decay)
    averaged.settle(torch.cat([batch()[0] for _ in range(20)], 1))
    return averaged.eval()
