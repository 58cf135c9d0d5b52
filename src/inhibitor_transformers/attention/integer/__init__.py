"""Inhibitor attention in small integers, without a product: bit-exact across all engines.

`reference.py` says what is computed, `qparams.py` how the numbers for it are chosen; `cpu.py` is the compiled engine.
"""

from .functional import integer_attention, integer_scores
from .module import QuantizedScalars
from .qparams import QuantParams
from .requantize import Requantize, fixed_point, requantize

__all__ = [
    "QuantParams",
    "QuantizedScalars",
    "Requantize",
    "fixed_point",
    "integer_attention",
    "integer_scores",
    "requantize",
]
