"""What the processes of a data-parallel run (torchrun, accelerate launch) do once, and where they wait.

Outside such a run there is one process, which is the main one and never waits.
"""

from __future__ import annotations

import os

import torch.distributed as dist

from .progress import Log


def require_joined(world_size: int) -> None:
    """Raise ValueError unless every process that was started is one of the `world_size` that train together.

    Accelerate joins them on CPUs only if told to; otherwise each would do the whole run, into the same folder.
    """
    started = int(os.environ.get("WORLD_SIZE", "1")) if "LOCAL_RANK" in os.environ else 1
    if started > world_size:
        raise ValueError(
            f"{started} processes were started, of which each would train alone: to train on CPUs add --device cpu, "
            "or start them with `accelerate launch --cpu`"
        )


def is_main_process() -> bool:
    """Whether this process writes files and speaks for all."""
    return not _is_distributed() or dist.get_rank() == 0


def wait_for_everyone() -> None:
    """Return once every process has come here."""
    if _is_distributed():
        dist.barrier()


def on_main_process(log: Log) -> Log:
    """`log`, heeded in the main process only."""
    return lambda line: log(line) if is_main_process() else None


def _is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized()
