"""Models that leave Python: ONNX, and packages of torch.export, in plain operators and checked against the model."""

from .export import FORMATS, Exported, export_model

__all__ = ["FORMATS", "Exported", "export_model"]
