"""Quantized inhibitor models: integer attention, 8-bit linear layers and embeddings, known to `from_pretrained`."""

from .embedding import Int8Embedding
from .linear import Int8Linear
from .quantizer import InhibitorIntegersConfig

__all__ = ["InhibitorIntegersConfig", "Int8Embedding", "Int8Linear"]
