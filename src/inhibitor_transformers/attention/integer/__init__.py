"""Inhibitor attention in small integers: the same result to the bit from every engine.

`specification.py` says what is computed, `heads.py` how a head is quantised; `cpu.py` is the compiled engine.
"""

from .dispatch import integer_attention, integer_scores
from .heads import IntegerHeads
from .module import IntegerInhibitor

__all__ = ["IntegerHeads", "IntegerInhibitor", "integer_attention", "integer_scores"]
