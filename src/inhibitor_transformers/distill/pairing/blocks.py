"""The blocks of any model: what its layers of attention and feed-forward are, and the hidden states after each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class BlockStates(NamedTuple):
    """The block's name, the number of this call of it from 0, and what it returned or was given first: (B, N, dim)."""

    name: str
    application: int
    states: Tensor


def find_blocks(model: nn.Module, attention: Iterable[str]) -> list[str]:
    """Names of the blocks that hold the attention modules of these names, each once, in order.

    A block is the nearest module around attention that is one of a list of its like: in T5 the list of a block's own
    sub-layers, of different classes, is passed over. Attention that lies in no list is a block itself.
    """
    modules = dict(model.named_modules())
    return list(dict.fromkeys(_block_of(name, modules) for name in attention))


def _block_of(attention: str, modules: dict[str, nn.Module]) -> str:
    path = attention.split(".")
    above = [".".join(path[:depth]) for depth in range(len(path), 1, -1)]  # from inside to outside
    listed = [name for name in above if isinstance(modules[name.rpartition(".")[0]], nn.ModuleList)]
    alike = (name for name in listed if len({type(m) for m in modules[name.rpartition(".")[0]].children()}) == 1)
    return next(alike, listed[0] if listed else attention)


@contextmanager
def record_blocks(model: nn.Module, names: Sequence[str]) -> Iterator[list[BlockStates]]:
    """While inside, the hidden states that each call of these blocks returns are appended to the list."""
    modules, found = dict(model.named_modules()), list[BlockStates]()
    with ExitStack() as hooks:
        for name in names:
            hook = modules[name].register_forward_hook(
                lambda _module, _inputs, output, name=name: found.append(_numbered(found, name, first_tensor(output)))
            )
            hooks.callback(hook.remove)
        yield found


@contextmanager
def record_inputs(model: nn.Module, names: Sequence[str]) -> Iterator[list[BlockStates]]:
    """While inside, the hidden states that each call of these blocks is given are appended to the list."""
    modules, found = dict(model.named_modules()), list[BlockStates]()

    def hook(name: str) -> Any:
        return lambda _module, args, kwargs: found.append(
            _numbered(found, name, first_tensor((*args, *kwargs.values())))
        )

    with ExitStack() as hooks:
        for name in names:
            hooks.callback(modules[name].register_forward_pre_hook(hook(name), with_kwargs=True).remove)
        yield found


def _numbered(found: list[BlockStates], name: str, states: Tensor) -> BlockStates:
    return BlockStates(name, sum(other.name == name for other in found), states)


def first_tensor(output: Any) -> Tensor:
    """The hidden states (B, N, dim) among what a block is given or returns; maps (B, H, W, dim) as sequences.

    Of a model that lays all its sequences end to end, (N, dim), one sequence.
    """
    found: Tensor = next(x for x in (output if isinstance(output, tuple | list) else (output,)) if torch.is_tensor(x))
    return found.unsqueeze(0) if found.dim() == 2 else found.flatten(1, -2)
