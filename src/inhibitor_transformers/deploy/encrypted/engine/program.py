"""Compiles a plan to a program that runs on ciphertexts."""

from __future__ import annotations

import atexit
import signal
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from ..graph import Array, Node
from ..plan import EncryptedPlan
from . import GLOBAL_P_ERROR

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of pkg_resources, by Concrete's own import
    from concrete import fhe
    from concrete.compiler import _terminate_df_parallelization

# Concrete's way of ending its runtime ends the process with status 0, whatever has failed.
atexit.unregister(_terminate_df_parallelization)
# Concrete's runtime catches SIGPIPE and ends the process, when no more has happened than that a peer has gone. Blocked,
# in this thread and those that it starts, what is left of it is Python's BrokenPipeError.
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGPIPE})


def compile_plan(plan: EncryptedPlan, *, global_p_error: float = GLOBAL_P_ERROR, simulate: bool = False) -> fhe.Circuit:
    """A circuit with the plan's input and one output, the plan's output less its least values.

    simulate: also prepare `circuit.simulate`, which makes the errors that ciphertexts would. Raises ValueError if
    Concrete gives a value fewer bits than its proven range needs.
    """
    hinted: list[tuple[Any, str, int]] = []
    compiler = fhe.Compiler(_traced(plan, hinted), {"x": "encrypted"})
    circuit = compiler.compile(
        _corners(plan),
        fhe.Configuration(
            global_p_error=global_p_error,
            # One set of parameters: the fewest and smallest keys, and with equally wide tables no slower.
            parameter_selection_strategy=fhe.ParameterSelectionStrategy.MONO,
            compress_evaluation_keys=True,
            compress_input_ciphertexts=True,
            fhe_simulation=simulate,
            enable_tlu_fusing=False,  # tables stay as they were proven
            dump_artifacts_on_unexpected_failures=False,  # it would write the graph into the current folder
        ),
    )
    for computation, name, bits in hinted:
        width = computation.output.dtype.bit_width
        if width < bits:
            raise ValueError(f"{name}: Concrete gives it {width} bits, its proven range needs {bits}")
    return circuit


def decode(plan: EncryptedPlan, decrypted: Array) -> Array:
    """The plan's output of what the circuit's decrypts to."""
    return np.asarray(decrypted, np.int64) + plan.output.low


def _corners(plan: EncryptedPlan) -> list[Array]:
    """Inputs for Concrete's own measurement of ranges: they make intermediate results positive as well as negative.

    Bits do not depend on them: every node carries its proven width as a hint.
    """
    low, high = plan.input.low, plan.input.high
    generator = np.random.default_rng(0)
    mixed = [generator.integers(low, high, endpoint=True) for _ in range(30)]
    ends = [np.where(generator.random(low.shape) < 0.5, low, high) for _ in range(30)]
    return [low, high, *mixed, *ends]


def _traced(plan: EncryptedPlan, hinted: list[tuple[Any, str, int]]) -> Callable[[Any], Any]:
    """The plan as a function that Concrete traces; what it is hinted is noted."""

    def hint(x: Any, name: str, low: int, high: int) -> Any:
        bits = _bits(low, high)
        x = fhe.hint(x, bit_width=bits)
        hinted.append((x.computation, name, bits))
        return x

    def run(x: Any) -> Any:
        values: list[Any] = []
        for node in plan.graph.nodes:
            inputs = [values[number] for number in node.inputs]
            if node.operation in ("lookup", "take"):
                # From 0 on: a table begins there, and Concrete cannot take rows that it saw no negative number in from
                # a tensor that has some.
                first, last = plan.graph.nodes[node.inputs[0]].bounds
                inputs = [hint(inputs[0] - first if first else inputs[0], node.name, 0, last - first)]
            value = x if node.operation == "input" else _TRACE[node.operation](node, *inputs)
            if node.operation == "take" and first:
                value = value + first
            values.append(hint(value, node.name, *node.bounds))
        low = plan.output.low
        high = int((plan.output.high - low).max())
        return hint(values[-1] - low, "output", 0, high)

    return run


def _bits(low: int, high: int) -> int:
    """Of an integer that is unsigned if it can be."""
    return max(high.bit_length(), 1) if low >= 0 else max(high.bit_length(), (-low - 1).bit_length()) + 1


def _lookup(node: Node, x: Any) -> Any:
    entries = node.settings["entries"]
    length = 2 ** _bits(0, entries.shape[-1] - 1)
    padded = np.concatenate([entries, np.repeat(entries[..., -1:], length - entries.shape[-1], -1)], -1)
    if padded.size == length:
        return fhe.LookupTable(padded.reshape(-1).tolist())[x]
    spread = np.broadcast_to(padded, (*node.shape, length)).reshape(-1, length)
    tables = np.array([fhe.LookupTable(row.tolist()) for row in spread], dtype=object)
    return fhe.LookupTable(tables.reshape(node.shape))[x]


def _affine(node: Node, x: Any) -> Any:
    product = x @ node.settings["weight"]
    return product + node.settings["offset"] if node.settings["offset"].any() else product


_TRACE: dict[str, Callable[..., Any]] = {
    "affine": _affine,
    "add": lambda node, x, y: x + y,
    "subtract": lambda node, x, y: x - y,
    "sum": lambda node, x: np.sum(x, axis=node.settings["axis"]),
    "reshape": lambda node, x: x.reshape(node.shape),
    "take": lambda node, x: x[node.settings["indices"]],
    "lookup": _lookup,
}
