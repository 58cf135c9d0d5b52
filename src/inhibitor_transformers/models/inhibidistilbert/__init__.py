"""InhibiDistilBERT: DistilBERT with inhibitor attention, registered with the Auto classes."""

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForMultipleChoice,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from ..saved_format import register_saved_shapes
from .configuration_inhibidistilbert import InhibiDistilBertConfig
from .modeling_inhibidistilbert import (
    InhibiDistilBertForMaskedLM,
    InhibiDistilBertForMultipleChoice,
    InhibiDistilBertForQuestionAnswering,
    InhibiDistilBertForSequenceClassification,
    InhibiDistilBertForTokenClassification,
    InhibiDistilBertModel,
    InhibiDistilBertPreTrainedModel,
)
from .task_vector import add_task_vector

register_saved_shapes(InhibiDistilBertConfig.model_type)
AutoConfig.register(InhibiDistilBertConfig.model_type, InhibiDistilBertConfig)
for _auto, _model in (
    (AutoModel, InhibiDistilBertModel),
    (AutoModelForMaskedLM, InhibiDistilBertForMaskedLM),
    (AutoModelForMultipleChoice, InhibiDistilBertForMultipleChoice),
    (AutoModelForQuestionAnswering, InhibiDistilBertForQuestionAnswering),
    (AutoModelForSequenceClassification, InhibiDistilBertForSequenceClassification),
    (AutoModelForTokenClassification, InhibiDistilBertForTokenClassification),
):
    _auto.register(InhibiDistilBertConfig, _model)

__all__ = [
    "InhibiDistilBertConfig",
    "InhibiDistilBertForMaskedLM",
    "InhibiDistilBertForMultipleChoice",
    "InhibiDistilBertForQuestionAnswering",
    "InhibiDistilBertForSequenceClassification",
    "InhibiDistilBertForTokenClassification",
    "InhibiDistilBertModel",
    "InhibiDistilBertPreTrainedModel",
    "add_task_vector",
]
