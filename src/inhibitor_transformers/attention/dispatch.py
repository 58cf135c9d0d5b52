"""Which engine serves a call, and why the others do not."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from . import reference
from .call import AttentionCall, make_call
from .cpu import engine as cpu
from .triton import engine as triton

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Engine:
    """One implementation of the operation.

    `describe()` says what runs here, for `inhibit env`. `unavailable()` says why this machine cannot run it (None: it
    can); `refuses(call)` why it cannot serve this call (None: it can). The last two run before every call: cheap.
    "auto" takes it for tensors of the type `device` (None: any), and says so where it would and cannot.
    """

    name: str
    describe: Callable[[], str]
    run: Callable[[AttentionCall], Tensor]
    unavailable: Callable[[], str | None]
    refuses: Callable[[AttentionCall], str | None]
    device: str | None = None

    def suits(self, call: AttentionCall) -> bool:
        """Whether "auto" may take it."""
        return self.device in (None, call.query.device.type)


REFERENCE = Engine(
    name="reference",
    describe=lambda: "plain torch, every device and dtype, differentiable twice",
    run=reference.run,
    unavailable=lambda: None,
    refuses=lambda call: None,
)

CPU = Engine(
    name="cpu",
    describe=cpu.describe,
    run=cpu.run,
    unavailable=cpu.unavailable,
    refuses=cpu.refuses,
    device="cpu",
)

TRITON = Engine(
    name="triton",
    describe=triton.describe,
    run=triton.run,
    unavailable=triton.unavailable,
    refuses=triton.refuses,
    device="cuda",  # torch's name for ROCm devices too
)

# In order of preference: "auto" takes the first that can serve the call.
ENGINES: tuple[Engine, ...] = (CPU, TRITON, REFERENCE)

PREFERENCE_VARIABLE = "INHIBITOR_ENGINE"
_preferred = os.environ.get(PREFERENCE_VARIABLE)
if _preferred is not None:
    if _preferred not in {e.name for e in ENGINES}:
        raise ValueError(f"{PREFERENCE_VARIABLE}={_preferred!r}: known engines are {[e.name for e in ENGINES]}")
    ENGINES = tuple(sorted(ENGINES, key=lambda e: e.name != _preferred))


def select(call: AttentionCall, engine: str) -> Engine:
    """The engine for this call. Raises ValueError when the one asked for does not exist or cannot serve it."""
    if engine == "auto":
        for candidate in ENGINES:  # the reference, one of them, serves every call
            if candidate.suits(call):
                if candidate.unavailable() is not None:
                    _log_missing(candidate)
                elif candidate.refuses(call) is None:
                    return candidate
    for candidate in ENGINES:
        if candidate.name == engine:
            reason = candidate.unavailable() or candidate.refuses(call)
            if reason:
                raise ValueError(f"engine {engine!r} cannot serve this call: {reason}")
            return candidate
    raise ValueError(f"unknown engine {engine!r}; known: {['auto', *(e.name for e in ENGINES)]}")


_logged: set[str] = set()


def _log_missing(engine: Engine) -> None:
    """One line per process for an engine that `auto` would like to use and cannot."""
    # First the compiler: a compiled function that had read the set would be compiled again once it changes.
    if not torch.compiler.is_compiling() and engine.name not in _logged:
        _logged.add(engine.name)
        _log.warning("attention engine %r is not available: %s", engine.name, engine.unavailable())


def available_engines() -> list[str]:
    """Names of the engines that this machine can run, fastest first."""
    return [e.name for e in ENGINES if e.unavailable() is None]


def engine_report() -> list[tuple[str, str, str]]:
    """(name, description, "available" or the reason why not) of every engine."""
    return [(e.name, e.describe(), e.unavailable() or "available") for e in ENGINES]


def serving_engine(device: torch.device) -> str:
    """Name of the engine that "auto" takes for an ordinary float32 call on `device`."""
    q = torch.zeros(1, 1, 1, 1, device=device)
    one = torch.ones(1, device=device)
    call = make_call(
        *(q, q, q),
        **dict.fromkeys(("gamma", "eta", "delta", "length_exponent"), one),
        length_reference=64.0,
        key_padding_mask=None,
        attn_mask=None,
        is_causal=False,
        signed=True,
        center="mean",
    )
    return select(call, "auto").name
