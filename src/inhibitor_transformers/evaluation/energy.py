"""Finds the energy counters of this machine that can be trusted, and why the others cannot.

A counter that opens is not yet one that counts: on virtual machines some read 0, or one value for ever.
Only a counter that was seen to move is called readable, and no reading is reported here at all.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

POWERCAP = Path("/sys/class/powercap")  # Intel and AMD package energy (RAPL), in microjoules
SECONDS_TO_MOVE = 0.2  # RAPL counts every millisecond, NVML every 20 to 100

Counter = Callable[[], int]


def energy_counters() -> list[tuple[str, str]]:
    """(name, "readable" or the reason why not) of every energy counter that this machine might have."""
    return [*_processor_counters(), *_gpu_counters()]


def why_not_readable(read: Counter, seconds: float = SECONDS_TO_MOVE) -> str | None:
    """None if the counter moves within `seconds`, else what is wrong with it.

    Args:
        read: returns the energy used so far, in any unit. May raise OSError, RuntimeError or ValueError.
        seconds: how long to wait for it to move; returns as soon as it does.
    """
    try:
        first = read()
        end = time.monotonic() + seconds
        while time.monotonic() < end:  # busy on purpose: a processor at rest may use too little to count
            if read() != first:
                return None
    except PermissionError as error:
        return f"no permission to read {error.filename}; an administrator can grant it: chmod a+r {error.filename}"
    except (OSError, RuntimeError, ValueError) as error:
        return f"cannot be read: {error}"
    return f"does not move: {first} again after {seconds:g} s, as on virtual machines; its zeros mean nothing"


def _verdict(read: Counter) -> str:
    return why_not_readable(read) or "readable"


def _processor_counters() -> list[tuple[str, str]]:
    zones = sorted(POWERCAP.glob("*/energy_uj"))
    if not zones:
        where = f"no {POWERCAP}/*/energy_uj" if platform.system() == "Linux" else f"none on {platform.system()}"
        return [("processor (RAPL)", f"unavailable: {where}; virtual machines and containers seldom have one")]
    return [(f"processor ({zone.parent.name})", _verdict(partial(_read_zone, zone))) for zone in zones]


def _read_zone(path: Path) -> int:
    return int(path.read_text())


def _gpu_counters() -> list[tuple[str, str]]:
    if torch.version.hip or not torch.cuda.is_available():
        return [("GPU (NVML)", "unavailable: no NVIDIA GPU that this torch can use")]
    try:
        import pynvml
    except ImportError:
        return [("GPU (NVML)", "unavailable: pip install nvidia-ml-py")]
    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError as error:
        return [("GPU (NVML)", f"cannot be read: {error}")]

    def read(handle: object) -> int:
        try:
            return int(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle))
        except pynvml.NVMLError as error:
            raise RuntimeError(error) from None

    return [(f"GPU {i} (NVML)", _verdict(partial(read, handle))) for i, handle in enumerate(handles)]
