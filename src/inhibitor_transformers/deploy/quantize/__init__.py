"""Quantizes a trained inhibitor model after training, calibrated on texts."""

from .quantize import quantize, quantize_linears
from .report import cost_table

__all__ = ["cost_table", "quantize", "quantize_linears"]
