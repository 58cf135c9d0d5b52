"""Turns a trained inhibitor model into one that computes in small integers."""

from .quantize import quantize

__all__ = ["quantize"]
