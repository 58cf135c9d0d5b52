"""Models for transformers; importing this package registers them, and the quantized ones, with the Auto classes."""

from .conversion import convert
from .inhibidistilbert import (
    InhibiDistilBertConfig,
    InhibiDistilBertForMaskedLM,
    InhibiDistilBertForMultipleChoice,
    InhibiDistilBertForQuestionAnswering,
    InhibiDistilBertForSequenceClassification,
    InhibiDistilBertForTokenClassification,
    InhibiDistilBertModel,
    InhibiDistilBertPreTrainedModel,
    add_task_vector,
)
from .layer_map import LayerMap, map_layers
from .quantized import InhibitorIntegersConfig

__all__ = [
    "InhibiDistilBertConfig",
    "InhibiDistilBertForMaskedLM",
    "InhibiDistilBertForMultipleChoice",
    "InhibiDistilBertForQuestionAnswering",
    "InhibiDistilBertForSequenceClassification",
    "InhibiDistilBertForTokenClassification",
    "InhibiDistilBertModel",
    "InhibiDistilBertPreTrainedModel",
    "InhibitorIntegersConfig",
    "LayerMap",
    "add_task_vector",
    "convert",
    "map_layers",
]
