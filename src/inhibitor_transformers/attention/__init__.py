"""Inhibitor attention: Manhattan distances, additions and ReLU; no softmax, no matrix product.

This package imports torch and nothing else. `reference.py` is the definition; every other
engine is tested against it.
"""

from .dispatch import available_engines, engine_report
from .functional import inhibition_scores, inhibitor_attention
from .scalars import InhibitorScalars

__all__ = [
    "InhibitorScalars",
    "available_engines",
    "engine_report",
    "inhibition_scores",
    "inhibitor_attention",
]
