"""Inhibitor attention in small integers: the same result to the bit from every engine.

`specification.py` says what is computed, `heads.py` how a head is quantized; `cpu.py` is the compiled engine.
"""

from .functional import integer_attention, integer_scores
from .module import QuantizedScalars
from .qparams import QuantParams

__all__ = ["QuantParams", "QuantizedScalars", "integer_attention", "integer_scores"]
