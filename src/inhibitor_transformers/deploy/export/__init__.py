"""Exports models for other runtimes, and compares what was written with the model."""

from .export import RUNTIMES, Exported, export_model

__all__ = ["RUNTIMES", "Exported", "export_model"]
