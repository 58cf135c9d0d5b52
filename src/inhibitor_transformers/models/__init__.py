"""The Hugging Face side: importing this package registers the models with the Auto classes, quantized ones too."""

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
    "map_layers",
]
