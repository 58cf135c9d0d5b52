"""One process of a data-parallel step on CPUs, and the same step in a single process."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from inhibitor_transformers.attention import dispatch
from tests.models.tiny import texts, tiny_student

BATCH = 4
Gradients = dict[str, Tensor]


def whole_batch() -> tuple[nn.Module, dict[str, Tensor]]:
    """The same model and padded texts in every process."""
    torch.manual_seed(0)
    return tiny_student(), texts(batch=BATCH, length=19)


def gradients(model: nn.Module, inputs: dict[str, Tensor]) -> Gradients:
    """Of a mean over the batch, so that the mean of two halves is that of the whole."""
    hidden = model(**inputs).last_hidden_state
    (hidden * torch.sin(torch.arange(hidden[0].numel())).view(hidden.shape[1:])).sum((1, 2)).mean().backward()
    return {n.removeprefix("module."): p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def half_of_the_batch(rank: int, folder: str) -> None:
    """Process `rank` of two: its gradients after DDP averaged them go to `folder`."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    try:
        assert dispatch.serving_engine(torch.device("cpu")) == "cpu"
        model, inputs = whole_batch()
        mine = {name: t.chunk(2)[rank] for name, t in inputs.items()}
        torch.save(gradients(DistributedDataParallel(model), mine), Path(folder) / f"{rank}.pt")
    finally:
        torch.distributed.destroy_process_group()
