"""The elements of both heads with the same operand registers, each in all its forms, to be compared one by one.

    scores          dot product q·k                      distance Σ|q − k|
    outputs         weighted sum Σ p·v                   inhibited sum Σ sign(v)·max(|v| − z, 0)

One operand is held, (rows, lanes): a query, or the probabilities or scores of a block of keys. The other one is
streamed past it, (rows, cycles, lanes): keys, or features of values. A row begins with a cycle that loads what is held.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .circuits import distance, multipliers, shrinkage
from .circuits.distance import Distance
from .circuits.head_size import Integers
from .circuits.multipliers import DotProduct, Operand
from .circuits.registered import Registered
from .circuits.rtlil import Circuit
from .circuits.shrinkage import Shrinkage
from .circuits.trace import Output
from .gates.cells import CellLibrary
from .gates.synthesize import RECIPES, Recipe
from .measure import Measurement, Stream, best, measure

Ports = dict[str, Integers]


@dataclass(frozen=True)
class Element:
    """Logic without registers of its own, and what its ports carry.

    encode: (cycles, lanes) held and streamed integers → ports. model: the same → `total`, (cycles,).
    gates: by streamed port the held one whose 0 makes it not matter.
    """

    name: str
    form: str
    circuit: Circuit
    held: Sequence[str]
    streamed: Sequence[str]
    encode: Callable[[Integers, Integers], Ports]
    model: Callable[[Integers, Integers], Integers]
    gates: dict[str, str]

    def registered(self) -> Registered:
        return Registered(self.circuit, self.held, self.streamed, self.gates)

    def stream(self, held: Integers, streamed: Integers) -> Stream:
        """held (rows, lanes), streamed (rows, n, lanes): n + 1 cycles each."""
        n, lanes = streamed.shape[1:]
        # In the cycle that loads, the streamed operand stays what it was.
        last = np.concatenate([streamed[:1, :1], streamed[:-1, -1:]])
        b = np.concatenate([last, streamed], axis=1).reshape(-1, lanes)
        a = np.repeat(held, n + 1, axis=0)
        load = np.arange(len(a)) % (n + 1) == 0
        inputs = self.encode(a, b) | {"load": load.astype(np.int64), "enable": (~load).astype(np.int64)}
        # What a cycle takes over it shows in the next one.
        totals = np.concatenate([[0], self.model(a, b)[:-1]])
        shown = np.concatenate([[False], ~load[:-1]])
        return Stream(inputs, {"total": Output(totals, shown)})


PRODUCT_FORMS: tuple[multipliers.Form, ...] = ("baugh_wooley", "booth", "sign_magnitude")
"""Without `plain`, which takes several times as much."""


def dot_products(bits: int, lanes: int, forms: Sequence[multipliers.Form] = PRODUCT_FORMS) -> list[Element]:
    """q and k, signed and symmetric."""
    return [_product("dot product", lanes, Operand(bits, True), Operand(bits, True), form) for form in forms]


def weighted_sums(bits: int, lanes: int, forms: Sequence[multipliers.Form] = PRODUCT_FORMS) -> list[Element]:
    """Probabilities, unsigned and held, and values, signed and symmetric."""
    return [_product("weighted sum", lanes, Operand(bits, False), Operand(bits, True), form) for form in forms]


def distances(bits: int, lanes: int, forms: Sequence[distance.Form] = distance.FORMS) -> list[Element]:
    """Levels of q and k, unsigned. The min form gives the distance less Σq, with Σk streamed beside the key."""
    elements = []
    for form in forms:
        circuit = Distance(bits, lanes, form)
        q, k = (_names(name, lanes) for name in "qk")

        def encode(a: Integers, b: Integers, form: str = form) -> Ports:
            sums = {"key_sum": b.sum(-1)} if form == "min" else {}
            return _lanes("q", a) | _lanes("k", b) | sums

        def model(a: Integers, b: Integers, circuit: Distance = circuit) -> Integers:
            return circuit.model(a, b, key_sum=b.sum(-1))

        streamed = [*k, "key_sum"] if form == "min" else k
        elements.append(Element("distance", form, circuit, q, streamed, encode, model, {}))
    return elements


def inhibited_sums(bits: int, lanes: int, forms: Sequence[shrinkage.Form] = shrinkage.FORMS) -> list[Element]:
    """Scores z, unsigned with one bit less and held, and values, signed and symmetric."""
    elements = []
    for form in forms:
        circuit = Shrinkage(bits, lanes, form)
        held, streamed = _names("not_z", lanes), _names("v", lanes)
        gates = dict(zip(streamed, held, strict=True)) if form == "subtract" else {}

        def encode(z: Integers, v: Integers, circuit: Shrinkage = circuit) -> Ports:
            return circuit.encode(v, z)

        def model(z: Integers, v: Integers, circuit: Shrinkage = circuit) -> Integers:
            return circuit.model(v, z)

        elements.append(Element("inhibited sum", form, circuit, held, streamed, encode, model, gates))
    return elements


def measure_best(
    elements: Sequence[Element],
    held: Integers,
    streamed: Integers,
    library: CellLibrary,
    recipes: Sequence[Recipe] = RECIPES,
) -> tuple[Element, Measurement]:
    """The best of an element's forms, each as its best recipe maps it."""
    stream = {element.form: element.stream(held, streamed) for element in elements}
    measured = {e.form: measure(e.registered(), stream[e.form], library, recipes) for e in elements}
    winner = best(measured.values())
    return next((e, winner) for e in elements if measured[e.form] is winner)


def _product(name: str, lanes: int, a: Operand, b: Operand, form: multipliers.Form) -> Element:
    circuit = DotProduct(lanes, a, b, form)
    held, streamed = _names("a", lanes), _names("b", lanes)

    def encode(x: Integers, y: Integers) -> Ports:
        return _lanes("a", circuit.encode("a", x)) | _lanes("b", circuit.encode("b", y))

    gates = dict(zip(streamed, held, strict=True))
    return Element(name, form, circuit, held, streamed, encode, circuit.model, gates)


def _names(name: str, lanes: int) -> list[str]:
    return [f"{name}{lane}" for lane in range(lanes)]


def _lanes(name: str, values: Integers) -> Ports:
    return {f"{name}{lane}": values[:, lane] for lane in range(values.shape[1])}
