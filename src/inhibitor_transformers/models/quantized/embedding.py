"""An embedding with int8 rows."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Int8Embedding(nn.Module):
    """Rows of int8 with one scale each: a quarter of the memory, and as exact as the row's largest entry / 254.

    Args:
        num_embeddings, embedding_dim: as in nn.Embedding; the buffers are empty until loaded or made.
    """

    weight: Tensor
    scale: Tensor

    def __init__(self, num_embeddings: int, embedding_dim: int) -> None:
        super().__init__()
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.register_buffer("weight", torch.zeros((num_embeddings, embedding_dim), dtype=torch.int8))
        self.register_buffer("scale", torch.ones(num_embeddings))

    @classmethod
    def from_embedding(cls, embedding: nn.Embedding) -> Int8Embedding:
        """The quantized copy of an embedding of any floating dtype, on the CPU."""
        made = cls(embedding.num_embeddings, embedding.embedding_dim)
        weight = embedding.weight.detach().float().cpu()
        made.scale = (weight.abs().amax(1) / 127).clamp_min(torch.finfo(torch.float32).tiny)
        made.weight = (weight / made.scale[:, None]).round().to(torch.int8)
        return made

    def forward(self, ids: Tensor) -> Tensor:
        """Ids of any shape to (…, embedding_dim) float32."""
        return self.weight[ids] * self.scale[ids].unsqueeze(-1)

    def extra_repr(self) -> str:
        return f"{self.num_embeddings}, {self.embedding_dim}"
