"""Measures encrypted inference: what a bootstrap costs, trained classifiers side by side, search, and errors.

    build/encrypted/bin/python benchmarks/encrypted.py --tables models --models runs/digits-* --samples 20
    build/encrypted/bin/python benchmarks/encrypted.py --tables costs specification errors search --models runs/digits-0

Runs in the engine's environment (`make encrypted`). Decrypted integers are compared with the clear ones, and a time is
not printed where they differ. CPU seconds are those of the process, all threads; samples of the sides take turns.

models: folders that `inhibit encrypted train` wrote; a dot product is measured with the fewest tables ("cheapest") and
with quarter squares alone, once with several features in a table ("quarter_squares") and once without ("unpacked").
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from inhibitor_transformers.deploy.encrypted.attention import InhibitorScores
from inhibitor_transformers.deploy.encrypted.classifier import IntegerClassifier
from inhibitor_transformers.deploy.encrypted.engine import GLOBAL_P_ERROR
from inhibitor_transformers.deploy.encrypted.engine.program import compile_plan, decode
from inhibitor_transformers.deploy.encrypted.graph import Graph
from inhibitor_transformers.deploy.encrypted.plan import EncryptedPlan
from inhibitor_transformers.deploy.encrypted.saved import EXAMPLES, load_model
from inhibitor_transformers.deploy.encrypted.search import search_graph, thermometer
from inhibitor_transformers.deploy.encrypted.specification import specification_graph

Row = dict[str, Any]


@dataclass
class Side:
    """A plan, its circuit with keys, and what its samples took."""

    name: str
    plan: EncryptedPlan
    circuit: Any
    row: Row
    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    equal: int = 0

    @classmethod
    def prepare(cls, name: str, plan: EncryptedPlan, **row: Any) -> Side:
        """Compile and make keys."""
        start = time.perf_counter()
        circuit = compile_plan(plan)
        compiled = time.perf_counter()
        circuit.keygen()
        row |= {
            "bootstraps": plan.bootstraps,
            "table bits": plan.table_bits,
            "cost": round(circuit.complexity / 1e9, 1),
            "compile s": round(compiled - start, 1),
            "keys s": round(time.perf_counter() - compiled, 1),
            "keys MB": round(len(circuit.client.evaluation_keys.serialize()) / 1e6, 1),
        }
        return cls(name, plan, circuit, row)

    def run(self, x: np.ndarray) -> np.ndarray:
        """Encrypt, compute and decrypt one input; the result."""
        ciphertext = self.circuit.encrypt(x)
        cpu, wall = time.process_time(), time.perf_counter()
        answer = self.circuit.run(ciphertext)
        self.wall.append(time.perf_counter() - wall)
        self.cpu.append(time.process_time() - cpu)
        self.row |= {"input B": len(ciphertext.serialize()), "answer B": len(answer.serialize())}
        decrypted = decode(self.plan, self.circuit.decrypt(answer))
        self.equal += int((decrypted == self.plan.evaluate(x[None])[0]).all())
        return self.plan.finish(decrypted[None])[0]

    def warm_up(self, x: np.ndarray) -> None:
        """The first run decompresses the keys."""
        self.run(x)
        self.row["first run CPU s"] = round(self.cpu[0], 2)
        self.cpu, self.wall, self.equal = [], [], 0

    def result(self) -> Row:
        if self.equal < len(self.cpu):
            return {"side": self.name, **self.row, "equal": f"{self.equal} of {len(self.cpu)}: not timed"}
        times = {"CPU s": self.cpu, "wall s": self.wall}
        found = {f"{name} min": round(min(t), 3) for name, t in times.items()}
        found |= {f"{name} median": round(statistics.median(t), 3) for name, t in times.items()}
        return {"side": self.name, **self.row, "equal": f"{self.equal} of {len(self.cpu)}", **found}


def models(options: argparse.Namespace) -> Iterator[Row]:
    """Trained classifiers: examples of their test split, encrypted."""
    sides: list[tuple[Side, np.ndarray, list[int]]] = []
    for folder in options.models:
        classifier, _, info = load_model(folder)
        for products in _products(classifier, options.products):
            plan = classifier.plan(products=products)
            name = folder.name if isinstance(classifier.scores, InhibitorScores) else f"{folder.name} {products}"
            print(f"compiling {name}: {plan.bootstraps} bootstraps", file=sys.stderr)
            sides.append((Side.prepare(name, plan, accuracy=info["scores"]["test"]), *_examples(folder)))
    right = {side.name: 0 for side, _, _ in sides}
    for number in range(options.samples):
        for side, inputs, labels in sides:
            if not side.cpu and not number:
                side.warm_up(inputs[number])
            right[side.name] += int(side.run(inputs[number]).argmax() == labels[number])
        print(f"sample {number + 1} of {options.samples}", file=sys.stderr)
    for side, _, _ in sides:
        yield side.result() | {"right": f"{right[side.name]} of {options.samples}"}


def _products(classifier: IntegerClassifier, chosen: Sequence[str]) -> Sequence[str]:
    return ["cheapest"] if isinstance(classifier.scores, InhibitorScores) else chosen


def _examples(folder: Path) -> tuple[np.ndarray, list[int]]:
    """Levels and labels of the examples of a model's test split."""
    _, encoder, info = load_model(folder)
    return encoder.encode(json.loads((folder / EXAMPLES).read_text(encoding="utf-8"))), info["example_labels"]


def costs(_: argparse.Namespace) -> Iterator[Row]:
    """A bootstrap by the bits of the widest table, in Concrete's cost model: 1,200 of them, sums of three between."""
    for bits in range(1, 9):
        graph, count = Graph(8), 300
        highest = 2**bits - 1
        x = graph.input("x", np.zeros((1, count), np.int64), np.full((1, count), highest))
        third = graph.lookup("third", x, lambda level: level // 3)
        near = sum(np.roll(np.eye(count, dtype=np.int64), shift, 1) for shift in range(3))
        sums = graph.affine("sums", third, np.asarray(near))
        same, last = graph.lookup("same", x, lambda level: level), graph.lookup("last", sums, lambda level: level % 2)
        graph.add("end", graph.lookup("parity", same, lambda level: level % 2), last)
        circuit = compile_plan(EncryptedPlan(graph))
        count = circuit.programmable_bootstrap_count
        yield {
            "bits": bits,
            "10⁶ units a bootstrap": round(circuit.complexity / count / 1e6),
            "keys MB": round((circuit.size_of_bootstrap_keys + circuit.size_of_keyswitch_keys) / 1e6),
            "error of a bootstrap": f"{circuit.p_error:.0e}",
        }


def specification(options: argparse.Namespace) -> Iterator[Row]:
    """One head of the integer specification, 2 tokens of 2 features."""
    generator = np.random.default_rng(0)
    for bits in (3, 4, 5):
        for signed in (True, False):
            for centered in (True, False):
                scores = InhibitorScores(-1, 1, centered=centered)
                plan = EncryptedPlan(specification_graph(bits, 2, 2, scores, signed=signed))
                inputs = generator.integers(plan.input.low, plan.input.high + 1, (options.simulated, *plan.input.shape))
                wrong = _wrong(plan, inputs, GLOBAL_P_ERROR)
                side = Side.prepare(f"{bits} bits", plan, signed=signed, centered=centered)
                side.warm_up(inputs[0])
                for x in inputs[:5]:
                    side.run(x)
                yield side.result() | {"simulated wrong": f"{wrong} of {options.simulated}"}


def errors(options: argparse.Namespace) -> Iterator[Row]:
    """How often a whole example comes out wrong, by the bound that was asked for."""
    classifier, _, _ = load_model(options.models[0])
    plan = classifier.plan()
    inputs = np.resize(_examples(options.models[0])[0], (options.simulated, *plan.input.shape))
    for asked in (1e-1, 1e-2, 1e-3, 1e-4):
        circuit = compile_plan(plan, global_p_error=asked)
        p_error = circuit.p_error
        yield {
            "global_p_error": asked,
            "cost": round(circuit.complexity / 1e9, 1),
            "of one bootstrap": f"{p_error:.1e}",
            f"1 − (1 − p)^{plan.bootstraps}": f"{1 - (1 - p_error) ** plan.bootstraps:.1e}",
            "simulated wrong": f"{_wrong(plan, inputs, asked)} of {len(inputs)}",
        }


def _wrong(plan: EncryptedPlan, inputs: np.ndarray, global_p_error: float) -> int:
    circuit = compile_plan(plan, simulate=True, global_p_error=global_p_error)
    outputs = zip(inputs, plan.evaluate(inputs), strict=True)
    return sum(int((decode(plan, circuit.simulate(x)) != clear).any()) for x, clear in outputs)


def search(options: argparse.Namespace) -> Iterator[Row]:
    """1,000 clear keys of 32 features, eight levels: Manhattan distances, and dot products of levels −3 … 4."""
    generator = np.random.default_rng(0)
    keys, queries = generator.integers(0, 8, (1000, 32)), generator.integers(0, 8, (options.samples + 1, 32))
    graph = Graph()
    query = graph.input("query", np.full((1, 32), -3), np.full((1, 32), 4))
    graph.affine("dot products", query, (keys - 3).T)
    sides = [
        (Side.prepare("Manhattan", EncryptedPlan(search_graph(keys, 7))), thermometer(queries, 7)[:, None]),
        (Side.prepare("dot product", EncryptedPlan(graph)), queries[:, None] - 3),
    ]
    for number in range(options.samples + 1):
        for side, inputs in sides:
            (side.run if number else side.warm_up)(inputs[number])
    for side, _ in sides:
        yield side.result()


TABLES: dict[str, Callable[[argparse.Namespace], Iterator[Row]]] = {
    "costs": costs,
    "models": models,
    "specification": specification,
    "errors": errors,
    "search": search,
}


def markdown(rows: list[Row]) -> str:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = [columns, ["---"] * len(columns), *([str(row.get(name, "")) for name in columns] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    if options.json and options.json.exists():
        raise SystemExit(f"{options.json} exists; name a new file")
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}\n")
    found: dict[str, list[Row]] = {}
    for name in options.tables:
        found[name] = list(TABLES[name](options))
        print(f"{TABLES[name].__doc__}\n\n{markdown(found[name])}\n", flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", nargs="+", choices=list(TABLES), required=True)
    parser.add_argument("--models", nargs="+", type=Path, default=[], help="folders of trained classifiers")
    parser.add_argument(
        "--products", nargs="+", default=["cheapest"], choices=["cheapest", "quarter_squares", "unpacked"]
    )
    parser.add_argument("--samples", type=int, default=20, help="encrypted examples a side")
    parser.add_argument("--simulated", type=int, default=1000, help="simulated examples")
    parser.add_argument("--json", type=Path, help="also write the rows to this new file")
    options = parser.parse_args(arguments)
    if not options.models and {"models", "errors"} & set(options.tables):
        parser.error("--models: these tables need a trained classifier")
    return options


if __name__ == "__main__":
    main()
