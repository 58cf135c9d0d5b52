"""Inhibitor attention for PyTorch and Transformers: operation, models and distillation.

Names are imported when first used: `import inhibitor_transformers` loads neither torch nor transformers.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._register import register_with_transformers

__version__ = "0.1.0"

_HOME = {
    "inhibitor_attention": ".attention",
    "convert": ".models",
    "inhibition_scores": ".attention",
    "InhibitorScalars": ".attention",
    "InhibiDistilBertConfig": ".models",
    "InhibiDistilBertModel": ".models",
    "InhibiDistilBertForMaskedLM": ".models",
    "InhibiDistilBertForSequenceClassification": ".models",
    "InhibiDistilBertForTokenClassification": ".models",
    "InhibiDistilBertForQuestionAnswering": ".models",
    "InhibiDistilBertForMultipleChoice": ".models",
}

__all__ = [
    "InhibiDistilBertConfig",
    "InhibiDistilBertForMaskedLM",
    "InhibiDistilBertForMultipleChoice",
    "InhibiDistilBertForQuestionAnswering",
    "InhibiDistilBertForSequenceClassification",
    "InhibiDistilBertForTokenClassification",
    "InhibiDistilBertModel",
    "InhibitorScalars",
    "__version__",
    "convert",
    "inhibition_scores",
    "inhibitor_attention",
]

if TYPE_CHECKING:  # the same names, for type checkers
    from .attention import InhibitorScalars, inhibition_scores, inhibitor_attention
    from .models import (
        InhibiDistilBertConfig,
        InhibiDistilBertForMaskedLM,
        InhibiDistilBertForMultipleChoice,
        InhibiDistilBertForQuestionAnswering,
        InhibiDistilBertForSequenceClassification,
        InhibiDistilBertForTokenClassification,
        InhibiDistilBertModel,
        convert,
    )


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


register_with_transformers()
