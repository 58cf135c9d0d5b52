"""Stage "masked_lm": DistilBERT's triple loss; needs a teacher with a masked-LM head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import AutoModelForMaskedLM, PreTrainedModel

from ...common.number_ranges import NOT_NEGATIVE, POSITIVE, check_numbers
from ...common.settings import require
from ...models import InhibiDistilBertForMaskedLM
from ...models.architectures import masked_lm_logits
from ..data import StepBatches, mask_tokens
from ..losses import IGNORED, Terms, cosine_distance, cross_entropy, soft_target_divergence
from ..pairing import EncoderPairing, Pairing
from ..teacher.teacher import Teacher, model_inputs
from .base import Models, RunContext, TrainedStage


class MaskedStepBatches(StepBatches):
    """`StepBatches` for masked language modeling; `labels` holds the hidden tokens (`mask_tokens`).

    The draw depends on the item's index and the seed alone.
    """

    mask_probability = 0.15

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        batch = super().__getitem__(index)
        draw = torch.Generator().manual_seed(self.seed * 1_000_003 + index)
        ids = batch["input_ids"]
        masked, chosen = mask_tokens(ids, self.tokenizer, self.mask_probability, draw)
        return batch | {"input_ids": masked, "labels": ids.masked_fill(~chosen, IGNORED)}


@dataclass
class MaskedLM(TrainedStage):
    """Trains the whole student, with dropout.

    alpha_ce, alpha_cos, alpha_mlm: weights of the soft targets, of the last hidden states and of masked language
    modeling, as in the paper. temperature: of the soft targets.
    """

    name: ClassVar[str] = "masked_lm"
    models: ClassVar[Models] = Models(InhibiDistilBertForMaskedLM, AutoModelForMaskedLM)
    dropout: ClassVar[bool] = True
    dataset_class: ClassVar[type[StepBatches]] = MaskedStepBatches
    max_steps: int = 1000
    learning_rate: float = 1e-4
    temperature: float = 2.0
    alpha_ce: float = 5.0
    alpha_cos: float = 2.0
    alpha_mlm: float = 1.0

    def __post_init__(self) -> None:
        weights = ("alpha_ce", "alpha_mlm", "alpha_cos")
        ranges = {"temperature": POSITIVE, **dict.fromkeys(weights, NOT_NEGATIVE)}
        check_numbers(self, ranges, f"{self.name}.")
        learns = any(getattr(self, name) for name in weights)
        require(learns, f"one of {self.name}'s {', '.join(weights)} must be positive, or there is nothing to learn")
        super().__post_init__()
        require(not self.masked_fraction, f"{self.name} masks by itself: leave masked_fraction out")

    def check_pairing(self, pairing: Pairing) -> None:
        if not isinstance(pairing, EncoderPairing):
            raise ValueError(
                f"{self.name} trains an InhibiDistilBERT; a converted masked language model learns by align_hidden, "
                "with logits_weight and masked_fraction"
            )

    def make_loss(self, context: RunContext, dataset: Any) -> MaskedLMLoss:
        return MaskedLMLoss(
            context.teacher,
            temperature=self.temperature,
            alpha_ce=self.alpha_ce,
            alpha_mlm=self.alpha_mlm,
            alpha_cos=self.alpha_cos,
        )


class MaskedLMLoss:
    """Soft targets, masked LM, and the cosine of the last hidden states, at the masked positions."""

    def __init__(
        self, teacher: Teacher, *, temperature: float, alpha_ce: float, alpha_mlm: float, alpha_cos: float
    ) -> None:
        self.teacher, self.temperature = teacher, temperature
        self.alpha_ce, self.alpha_mlm, self.alpha_cos = alpha_ce, alpha_mlm, alpha_cos

    def __call__(self, model: PreTrainedModel, batch: Mapping[str, Tensor], count: Tensor | float) -> Terms:
        chosen = batch["labels"] != IGNORED
        hidden = model.base_model(**model_inputs(batch)).last_hidden_state[chosen]  # the head runs at these only
        target, soft = self.teacher.at_positions(batch, chosen)
        logits = masked_lm_logits(model, hidden)
        return {
            "soft_targets": self.alpha_ce * soft_target_divergence(logits, soft, self.temperature, count),
            "masked_lm": self.alpha_mlm * cross_entropy(logits, batch["labels"][chosen], count),
            "cosine": self.alpha_cos * cosine_distance(hidden, target, count),
        }
