"""The Hugging Face side: importing this package registers the models with the Auto classes."""

from .inhibidistilbert import (
    InhibiDistilBertConfig,
    InhibiDistilBertForMaskedLM,
    InhibiDistilBertForMultipleChoice,
    InhibiDistilBertForQuestionAnswering,
    InhibiDistilBertForSequenceClassification,
    InhibiDistilBertForTokenClassification,
    InhibiDistilBertModel,
    InhibiDistilBertPreTrainedModel,
)
from .layers import LayerPlan, plan_layers

__all__ = [
    "InhibiDistilBertConfig",
    "InhibiDistilBertForMaskedLM",
    "InhibiDistilBertForMultipleChoice",
    "InhibiDistilBertForQuestionAnswering",
    "InhibiDistilBertForSequenceClassification",
    "InhibiDistilBertForTokenClassification",
    "InhibiDistilBertModel",
    "InhibiDistilBertPreTrainedModel",
    "LayerPlan",
    "plan_layers",
]
