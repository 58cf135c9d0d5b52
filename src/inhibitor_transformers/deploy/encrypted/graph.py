"""Integer graphs: sums with clear weights, and lookup tables. What a ciphertext can go through, and nothing else.

A sum of ciphertexts and a product with a clear integer cost next to nothing; a table is a bootstrap, some milliseconds.
Each node is a tensor of integers with a proven interval for every element, found by interval arithmetic while the graph
is built: a value outside the range that a ciphertext was made for would wrap around in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.int64]
Operation = Literal["input", "affine", "add", "subtract", "sum", "reshape", "take", "lookup"]
MAX_TABLE_BITS = 5
# Of weights, tables and values: far beyond what ciphertexts hold, and products of two, added up, fit 64 bits. Beyond, a
# proof could overflow itself.
MAX_MAGNITUDE = 2**20


@dataclass(frozen=True, eq=False)
class Node:
    """One tensor of the graph.

    name: for messages and reports, unique. inputs: numbers of the nodes it is made from. low, high: the proven least
    and greatest value of each element, int64 in the tensor's shape. noise: the variance of each element's noise, in
    that of a ciphertext just encrypted or looked up. settings: of the operation, see `Graph`.
    """

    name: str
    operation: Operation
    inputs: tuple[int, ...]
    low: Array
    high: Array
    noise: Array
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one example."""
        return self.low.shape

    @property
    def bounds(self) -> tuple[int, int]:
        """The least and the greatest value of any element."""
        return int(self.low.min()), int(self.high.max())

    @property
    def bits(self) -> int:
        """Of an unsigned integer that holds any of its values, less the least one."""
        low, high = self.bounds
        return max((high - low).bit_length(), 1)


@dataclass(frozen=True, eq=False)
class Tensor:
    """A node of a graph that is being built: what its methods return and take."""

    graph: Graph
    number: int

    @property
    def node(self) -> Node:
        return self.graph.nodes[self.number]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.node.shape


class Graph:
    """A graph under construction, and its evaluation in clear.

    Methods add a node and return it. All check what they are given and raise ValueError with the node's name.
    max_table_bits: tables for wider inputs are refused.
    """

    def __init__(self, max_table_bits: int = MAX_TABLE_BITS) -> None:
        self.nodes: list[Node] = []
        self.max_table_bits = max_table_bits

    def input(self, name: str, low: Array, high: Array) -> Tensor:
        """A tensor that the client encrypts, its elements within [low, high], of one shape."""
        low, high = _integers(name, low), _integers(name, high)
        if low.shape != high.shape or low.ndim == 0 or low.size == 0 or (low > high).any():
            raise ValueError(f"{name}: low {low.shape} and high {high.shape} must bound the elements of a tensor")
        return self._add(name, "input", (), low, high, np.ones_like(low))

    def affine(self, name: str, x: Tensor, weight: Array, offset: Array | int = 0) -> Tensor:
        """x @ weight + offset: (…, I) to (…, O), with integer weights (I, O) and offsets (O,)."""
        weight = _integers(name, weight)
        if weight.ndim != 2 or x.shape[-1] != weight.shape[0]:
            raise ValueError(f"{name}: weights {weight.shape} do not fit inputs {x.shape}")
        shift = np.broadcast_to(_integers(name, offset), weight.shape[1:])
        positive, negative = weight.clip(min=0), weight.clip(max=0)
        low, high = x.node.low, x.node.high
        return self._add(
            name,
            "affine",
            (x,),
            low @ positive + high @ negative + shift,
            high @ positive + low @ negative + shift,
            x.node.noise @ weight**2,
            weight=weight,
            offset=shift.copy(),
        )

    def add(self, name: str, x: Tensor, y: Tensor) -> Tensor:
        """x + y, of equally many axes, broadcast."""
        self._check_axes(name, x, y)
        a, b = x.node, y.node
        return self._add(name, "add", (x, y), a.low + b.low, a.high + b.high, a.noise + b.noise)

    def subtract(self, name: str, x: Tensor, y: Tensor) -> Tensor:
        """x − y, of equally many axes, broadcast."""
        self._check_axes(name, x, y)
        a, b = x.node, y.node
        return self._add(name, "subtract", (x, y), a.low - b.high, a.high - b.low, a.noise + b.noise)

    def sum(self, name: str, x: Tensor, axis: int) -> Tensor:
        """Σ over one axis, which goes."""
        if not 0 <= axis < len(x.shape):
            raise ValueError(f"{name}: {x.shape} has no axis {axis}")
        return self._move(name, "sum", x, lambda array: array.sum(axis), axis=axis)

    def reshape(self, name: str, x: Tensor, shape: tuple[int, ...]) -> Tensor:
        """The same elements in another shape."""
        try:
            np.empty(x.shape).reshape(shape)
        except ValueError:
            raise ValueError(f"{name}: {x.shape} cannot become {shape}") from None
        return self._move(name, "reshape", x, lambda array: array.reshape(shape))

    def take(self, name: str, x: Tensor, indices: Array) -> Tensor:
        """Rows x[indices]: (N, …) to (len(indices), …)."""
        indices = _integers(name, indices)
        if indices.ndim != 1 or len(indices) == 0 or indices.min() < 0 or indices.max() >= x.shape[0]:
            raise ValueError(f"{name}: indices must be rows of {x.shape}")
        return self._move(name, "take", x, lambda array: array[indices], indices=indices)

    def lookup(self, name: str, x: Tensor, table: Callable[[Array], Array] | Table) -> Tensor:
        """table[x]: one bootstrap an element.

        table: a function of integers, or tables that differ between elements. Raises ValueError, naming the node, if
        the proven range of x is wider than `max_table_bits` or not covered by the table.
        """
        low, high = x.node.bounds
        if x.node.bits > self.max_table_bits:
            raise ValueError(
                f"{name}: its table would need {x.node.bits} bits for inputs in [{low}, {high}], more than "
                f"{self.max_table_bits}: use fewer levels, fewer features or a smaller fan-in"
            )
        if not isinstance(table, Table):
            table = Table(_integers(name, table(np.arange(low, high + 1))), low)
        entries = table.covering(name, low, high)
        try:
            values = np.broadcast_to(entries, (*x.shape, entries.shape[-1]))
        except ValueError:
            raise ValueError(f"{name}: tables {entries.shape} do not fit inputs {x.shape}") from None
        position = np.arange(entries.shape[-1])
        reachable = (position >= (x.node.low - low)[..., None]) & (position <= (x.node.high - low)[..., None])
        least = np.where(reachable, values, np.iinfo(np.int64).max).min(-1)
        most = np.where(reachable, values, np.iinfo(np.int64).min).max(-1)
        return self._add(name, "lookup", (x,), least, most, np.ones_like(least), entries=entries, first=low)

    def tensor(self, number: int) -> Tensor:
        """Node number `number`."""
        return Tensor(self, number)

    def evaluate(self, inputs: Array, output: Tensor) -> Array:
        """The integers of `output` for a batch (B, …) of inputs, int64; no float comes into it.

        Raises ValueError for inputs that are not integers of the right shape within their range.
        """
        values: list[Array] = []
        for node in self.nodes[: output.number + 1]:
            if node.operation == "input":
                values.append(check_inputs(node, inputs))
            else:
                values.append(_EVALUATE[node.operation](node, *(values[i] for i in node.inputs)))
        return values[output.number]

    def _move(
        self, name: str, operation: Operation, x: Tensor, function: Callable[[Array], Array], **settings: Any
    ) -> Tensor:
        """Add a node to whose bounds and noise `function` does what it does to the elements."""
        node = x.node
        return self._add(name, operation, (x,), *map(function, (node.low, node.high, node.noise)), **settings)

    def _add(
        self,
        name: str,
        operation: Operation,
        inputs: tuple[Tensor, ...],
        low: Array,
        high: Array,
        noise: Array,
        **settings: Any,
    ) -> Tensor:
        if any(tensor.graph is not self for tensor in inputs):
            raise ValueError(f"{name}: its inputs belong to another graph")
        if max(-int(low.min()), int(high.max())) > MAX_MAGNITUDE:
            raise ValueError(f"{name}: values in [{low.min()}, {high.max()}], more than {MAX_MAGNITUDE} in magnitude")
        if any(node.name == name for node in self.nodes):
            raise ValueError(f"two nodes are called {name}")
        if operation == "input" and self.nodes:
            raise ValueError(f"{name}: a graph has one input, its first node")
        self.nodes.append(Node(name, operation, tuple(tensor.number for tensor in inputs), low, high, noise, settings))
        return Tensor(self, len(self.nodes) - 1)

    def _check_axes(self, name: str, x: Tensor, y: Tensor) -> None:
        fits = len(x.shape) == len(y.shape) and all(
            a == b or 1 in (a, b) for a, b in zip(x.shape, y.shape, strict=True)
        )
        if not fits:
            raise ValueError(f"{name}: {x.shape} and {y.shape} do not broadcast")


@dataclass(frozen=True, eq=False)
class Table:
    """values: (…, T) integers for inputs first … first + T − 1; the other axes broadcast with the node's shape."""

    values: Array
    first: int

    def covering(self, name: str, low: int, high: int) -> Array:
        """The entries for low … high. Raises ValueError if some are absent."""
        last = self.first + self.values.shape[-1] - 1
        if low < self.first or high > last:
            raise ValueError(f"{name}: inputs in [{low}, {high}], but its table covers [{self.first}, {last}]")
        return _integers(name, self.values)[..., low - self.first : high - self.first + 1]


def check_inputs(node: Node, inputs: Array) -> Array:
    """A batch (B, …) for the input node as int64. Raises ValueError for other shapes, dtypes or numbers."""
    inputs = np.asarray(inputs)
    if inputs.dtype.kind not in "iu":
        raise ValueError(f"{node.name}: integers are needed, got {inputs.dtype}")
    if inputs.shape[1:] != node.shape:
        raise ValueError(f"{node.name}: each example must have shape {node.shape}, got {inputs.shape[1:]}")
    outside = (inputs < node.low) | (inputs > node.high)
    if outside.any():
        example, *place = (int(i) for i in np.argwhere(outside)[0])
        low, high = node.low[tuple(place)], node.high[tuple(place)]
        number = inputs[outside][0]
        raise ValueError(f"{node.name}: number {number} at {place} of example {example} is outside [{low}, {high}]")
    return inputs.astype(np.int64)


def _integers(name: str, x: Any) -> Array:
    x = np.asarray(x)
    if x.dtype.kind not in "iu":
        raise ValueError(f"{name}: integers are needed, got {x.dtype}")
    if x.size and max(-int(x.min()), int(x.max())) > MAX_MAGNITUDE:
        raise ValueError(f"{name}: a number in [{x.min()}, {x.max()}] is more than {MAX_MAGNITUDE} in magnitude")
    return x.astype(np.int64)


def _lookup(node: Node, x: Array) -> Array:
    entries = np.broadcast_to(node.settings["entries"], (*x.shape, node.settings["entries"].shape[-1]))
    found: Array = np.take_along_axis(entries, (x - node.settings["first"])[..., None], -1)[..., 0]
    return found


_EVALUATE: dict[str, Callable[..., Array]] = {
    "affine": lambda node, x: x @ node.settings["weight"] + node.settings["offset"],
    "add": lambda node, x, y: x + y,
    "subtract": lambda node, x, y: x - y,
    "sum": lambda node, x: x.sum(node.settings["axis"] + 1),
    "reshape": lambda node, x: x.reshape(len(x), *node.shape),
    "take": lambda node, x: x[:, node.settings["indices"]],
    "lookup": _lookup,
}
