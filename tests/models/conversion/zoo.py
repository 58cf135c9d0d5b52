"""Tiny models of many architectures, `benchmarks/zoo.py`, and what they are converted to; each made once.

They are shared: a test that changes one works on a copy, and so does one that asks for hidden states or attentions, for
which transformers puts hooks into a model that cannot be pickled.
"""

from __future__ import annotations

import copy
import functools
import importlib.util
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from inhibitor_transformers import convert
from inhibitor_transformers.models.conversion.attention import ConvertedAttention
from tests.conftest import REPOSITORY


def _zoo() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmarks_zoo", REPOSITORY / "benchmarks" / "zoo.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


zoo = _zoo()
ARCHITECTURES = zoo.ARCHITECTURES
VOCAB, WIDTH = zoo.VOCAB, zoo.WIDTH
padded = zoo.padded

# Why some cannot be converted, as `convert` says it.
REFUSED = {
    "MPNet": "no attention module calls transformers' attention interface",
    "DebertaV2": "no attention module calls transformers' attention interface",
    "XLNet": "no attention module calls transformers' attention interface",
    "Longformer": "no attention module calls transformers' attention interface",
    "Funnel": "no attention module calls transformers' attention interface",
    "GPTNeo": "no attention module calls transformers' attention interface",
    "Bloom": "no attention module calls transformers' attention interface",
    "Falcon": "no attention module calls transformers' attention interface",
    "Mpt": "no attention module calls transformers' attention interface",
    "Gemma2": "its attention takes softcap",
    "GptOss": "its attention takes s_aux",
}
CONVERTED = [name for name in ARCHITECTURES if name not in REFUSED]
DECODERS = ["GPT2", "Llama", "Mistral", "Qwen2", "Qwen3", "Gemma3", "Phi", "OPT", "GPTNeoX", "Mixtral"]
ENCODERS = ["Bert", "Roberta", "XLMRoberta", "Electra", "DistilBert", "Albert", "Esm", "ModernBert"]
SEQ2SEQ = ["T5", "Bart", "Marian", "Whisper"]


@functools.cache
def teacher(name: str, head: str | None = None) -> Any:
    """A softmax model."""
    with _seeded(name):
        return ARCHITECTURES[name].build(head)


@functools.cache
def example(name: str) -> dict[str, Any]:
    with _seeded(name):
        found: dict[str, Any] = ARCHITECTURES[name].inputs()
        return found


@functools.cache
def student(name: str, head: str | None = None) -> Any:
    """`teacher(name, head)` with inhibitor attention, no scalar of which is at its start."""
    model = convert(teacher(name, head), example(name))
    with _seeded(name):
        return moved(model)


def copied(name: str, head: str | None = None) -> Any:
    """A student of the caller's own."""
    return copy.deepcopy(student(name, head))


@torch.no_grad()
def moved(model: Any) -> Any:
    for module in inhibitors(model).values():
        for parameter in module.parameters():
            parameter += 0.3 * torch.rand_like(parameter)
    return model


def inhibitors(model: torch.nn.Module) -> dict[str, ConvertedAttention]:
    """By the name of the module that each serves."""
    return {
        name.removesuffix(".inhibitor"): module
        for name, module in model.named_modules()
        if isinstance(module, ConvertedAttention)
    }


@torch.no_grad()
def run(model: Any, **inputs: Any) -> dict[str, Tensor]:
    """Every tensor of the outputs; seeded, for models that sample."""
    torch.manual_seed(3)
    return {name: value for name, value in model(**inputs).items() if isinstance(value, Tensor)}


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """To the bit."""
    return a.keys() == b.keys() and len(a) > 0 and all(torch.equal(a[name], b[name]) for name in a)


@contextmanager
def _seeded(name: str) -> Iterator[None]:
    """While inside, random numbers depend on the name alone."""
    with torch.random.fork_rng():
        torch.manual_seed(zlib.crc32(name.encode()))
        yield
