"""Exports models to ONNX and torch.export, in plain operators, and compares them with the model."""

from .export import FORMATS, Exported, export_model

__all__ = ["FORMATS", "Exported", "export_model"]
