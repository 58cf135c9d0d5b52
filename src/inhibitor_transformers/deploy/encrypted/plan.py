"""Plans: a graph that is ready to be encrypted, its costs, and its files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from .files import read_arrays, read_json, write_folder
from .graph import Array, Graph, Node, Table, check_inputs

FORMAT = 1
# A bootstrap in Concrete's cost model, in 10⁶ units, by the bits of the widest table, at one parameter set and an error
# of 1e-6 a bootstrap: `benchmarks/encrypted.py --tables costs`.
BOOTSTRAP_COST = {1: 27, 2: 38, 3: 46, 4: 76, 5: 105, 6: 254, 7: 878, 8: 3796}


@dataclass(frozen=True)
class TableCount:
    """A lookup of a plan: how many bootstraps of how many bits, for inputs in [low, high]."""

    name: str
    bootstraps: int
    bits: int
    low: int
    high: int


class EncryptedPlan:
    """A graph from one encrypted input to one output, both sides' common ground.

    graph: its first node is the input, its last the output. The clear evaluation is what the ciphertexts decrypt to.
    offset: (…,) int64, what the client adds to the sum of the output's parts, its first axis; None: the output is the
    result as it stands.
    """

    def __init__(self, graph: Graph, offset: Array | None = None) -> None:
        if len(graph.nodes) < 2:
            raise ValueError("a plan needs an input and something that is computed from it")
        self.graph = graph
        self.offset = offset
        if offset is not None and offset.shape != self.output.shape[1:]:
            raise ValueError(f"an offset {offset.shape} does not fit parts {self.output.shape}")

    @property
    def input(self) -> Node:
        return self.graph.nodes[0]

    @property
    def output(self) -> Node:
        return self.graph.nodes[-1]

    def evaluate(self, inputs: Array) -> Array:
        """The output's integers, (B, …) int64, of a batch of inputs. Raises ValueError for inputs out of range."""
        return self.graph.evaluate(inputs, self.graph.tensor(len(self.graph.nodes) - 1))

    def finish(self, outputs: Array) -> Array:
        """The result, (B, …) int64, of a batch of outputs: what a client does after decryption."""
        return outputs if self.offset is None else outputs.sum(1) + self.offset

    def check_inputs(self, inputs: Array) -> Array:
        """A batch of inputs as int64. Raises ValueError for other shapes, dtypes or numbers."""
        return check_inputs(self.input, inputs)

    @property
    def tables(self) -> list[TableCount]:
        """Its lookups, in the order of their evaluation."""
        lookups = [node for node in self.graph.nodes if node.operation == "lookup"]
        sources = [self.graph.nodes[node.inputs[0]] for node in lookups]
        return [
            TableCount(node.name, node.low.size, source.bits, *source.bounds)
            for node, source in zip(lookups, sources, strict=True)
        ]

    @property
    def bootstraps(self) -> int:
        return sum(table.bootstraps for table in self.tables)

    @property
    def table_bits(self) -> int:
        """Of the widest table; 0 without any."""
        return max((table.bits for table in self.tables), default=0)

    @property
    def cost(self) -> float:
        """In 10⁹ units of Concrete's cost model, with one parameter set: the widest table sets the price of all."""
        widest = max(BOOTSTRAP_COST)
        price = BOOTSTRAP_COST.get(self.table_bits, BOOTSTRAP_COST[widest] * 4 ** (self.table_bits - widest))
        return self.bootstraps * price / 1000 if self.bootstraps else 0.0

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all that is computed: what binds keys, client and server to this plan."""
        description, arrays = self._state()
        hashed = hashlib.sha256(json.dumps(description, sort_keys=True).encode())
        for name in sorted(arrays):
            array = np.ascontiguousarray(arrays[name], dtype="<i8")
            hashed.update(f"{name} {array.shape}".encode())
            hashed.update(array.tobytes())
        return hashed.hexdigest()

    def save(self, folder: Path, other_files: Mapping[str, bytes] | None = None) -> Path:
        """Write plan.json, plan.npz and what belongs to them into a new folder, or nothing.

        Raises ValueError if it exists.
        """
        description, arrays = self._state()
        return write_folder(folder, {"plan.json": description}, {"plan.npz": arrays}, other_files)

    @classmethod
    def load(cls, folder: Path) -> EncryptedPlan:
        """Build the graph of a saved plan again, and prove its ranges anew.

        Raises ValueError for files that are absent, damaged, or describe no graph.
        """
        description, arrays = read_json(folder / "plan.json"), read_arrays(folder / "plan.npz")
        try:
            if description["format"] != FORMAT:
                raise ValueError(f"format {description['format']}, this version reads {FORMAT}")
            graph = Graph(int(description["max_table_bits"]))
            for number, node in enumerate(description["nodes"]):
                own = {key.partition("/")[2]: a for key, a in arrays.items() if key.startswith(f"{number}/")}
                _add(graph, node, own)
            return cls(graph, arrays.get("offset"))
        except (KeyError, TypeError, IndexError, ValueError) as error:
            raise ValueError(f"{folder} holds no plan that can be read: {error!r}") from None

    def _state(self) -> tuple[dict[str, Any], dict[str, Array]]:
        nodes, arrays = [], {} if self.offset is None else {"offset": self.offset}
        for number, node in enumerate(self.graph.nodes):
            settings = dict(node.settings)
            if node.operation == "input":
                settings = {"low": node.low, "high": node.high}
            elif node.operation == "reshape":
                settings = {"shape": list(node.shape)}
            plain = {key: value for key, value in settings.items() if not isinstance(value, np.ndarray)}
            arrays |= {f"{number}/{key}": value for key, value in settings.items() if key not in plain}
            nodes.append({"name": node.name, "operation": node.operation, "inputs": list(node.inputs), **plain})
        return {"format": FORMAT, "max_table_bits": self.graph.max_table_bits, "nodes": nodes}, arrays


def _add(graph: Graph, node: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
    """Add a saved node. Its methods check what they are given."""
    name, operation = node["name"], node["operation"]
    if operation == "input":
        graph.input(name, arrays["low"], arrays["high"])
        return
    if any(not 0 <= number < len(graph.nodes) for number in node["inputs"]):
        raise ValueError(f"{name}: it uses a node that is not there yet")
    x, *others = (graph.tensor(number) for number in node["inputs"])
    match operation:
        case "affine":
            graph.affine(name, x, arrays["weight"], arrays["offset"])
        case "add":
            graph.add(name, x, *others)
        case "subtract":
            graph.subtract(name, x, *others)
        case "sum":
            graph.sum(name, x, node["axis"])
        case "reshape":
            graph.reshape(name, x, tuple(node["shape"]))
        case "take":
            graph.take(name, x, arrays["indices"])
        case "lookup":
            graph.lookup(name, x, Table(arrays["entries"], node["first"]))
        case _:
            raise ValueError(f"{name}: there is no operation {operation!r}")
