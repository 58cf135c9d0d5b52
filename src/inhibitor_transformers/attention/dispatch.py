"""Chooses the engine that serves a call, and says why the others do not."""

from __future__ import annotations

import logging
import os

import torch

from . import reference
from .call import AttentionCall
from .checks import make_call
from .cpu.engine import CPU
from .engine import KERNELS, Engine
from .triton.engine import TRITON

_log = logging.getLogger(__name__)

REFERENCE = Engine(
    name="reference",
    describe=lambda: "plain torch, every device and dtype, differentiable twice",
    run=reference.run,
    unavailable=lambda: None,
    refuses=lambda call: None,
)

# In order of preference: "auto" takes the first that can serve the call.
ENGINES: tuple[Engine, ...] = ()

PREFERENCE_VARIABLE = "INHIBITOR_ENGINE"
_preferred = os.environ.get(PREFERENCE_VARIABLE)


def register_engine(engine: Engine) -> None:
    """Add an engine: `engine=` takes its name, "auto" tries it before all others (but the one in INHIBITOR_ENGINE).

    Raises ValueError if there is one of that name.
    """
    global ENGINES
    if engine.name in ("auto", *(e.name for e in ENGINES)):
        raise ValueError(f"there is an engine {engine.name!r} already")
    ENGINES = tuple(sorted((engine, *ENGINES), key=lambda e: e.name != _preferred))
    if engine.kernels is not None:
        KERNELS[engine.name] = engine.kernels


for _engine in (REFERENCE, TRITON, CPU):
    register_engine(_engine)
if _preferred is not None and _preferred not in {e.name for e in ENGINES}:
    raise ValueError(f"{PREFERENCE_VARIABLE}={_preferred!r}: known engines are {[e.name for e in ENGINES]}")


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
    """Names of the engines that this machine can run, in the order in which "auto" tries them."""
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
