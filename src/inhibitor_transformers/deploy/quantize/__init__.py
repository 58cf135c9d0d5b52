"""Turns a trained inhibitor model into one that computes in small integers."""

from .quantize import quantize, quantize_linears
from .report import cost_table

__all__ = ["cost_table", "quantize", "quantize_linears"]
