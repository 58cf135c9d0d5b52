"""Graphs: what they compute, the intervals that they prove, and what they refuse."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from inhibitor_transformers.deploy.encrypted.graph import Graph, Table


def all_inputs(low: list[int], high: list[int]) -> np.ndarray:
    return np.array(list(product(*(range(a, b + 1) for a, b in zip(low, high, strict=True)))))


def graph_of(low: list[int], high: list[int], max_table_bits: int = 5):
    graph = Graph(max_table_bits)
    return graph, graph.input("x", np.array(low), np.array(high))


def outcome(graph, tensor, inputs) -> np.ndarray:
    values = graph.evaluate(inputs, tensor)
    assert (values.min(0) >= tensor.node.low).all()
    assert (values.max(0) <= tensor.node.high).all()
    return values


def test_affine_bounds_are_exact():
    graph, x = graph_of([-2, 0, 1], [1, 3, 2])
    y = graph.affine("y", x, np.array([[1, -2], [0, 3], [-1, 1]]), np.array([5, -7]))
    inputs = all_inputs([-2, 0, 1], [1, 3, 2])
    values = outcome(graph, y, inputs)
    assert values.tolist() == [[a - c + 5, -2 * a + 3 * b + c - 7] for a, b, c in inputs.tolist()]
    assert values.min(0).tolist() == y.node.low.tolist()
    assert values.max(0).tolist() == y.node.high.tolist()
    assert y.node.noise.tolist() == [2, 14]


def test_lookup_bounds_are_those_of_each_element():
    """Of each element's own interval and own table, not of the whole tensor's."""
    graph, x = graph_of([-2, 0], [0, 3])
    table = Table(np.array([[9, 1, 2, 99, 99, 99], [77, 77, 4, -5, 6, 0]]), -2)
    y = graph.lookup("y", x, table)
    assert (y.node.low.tolist(), y.node.high.tolist()) == ([1, -5], [9, 6])
    values = outcome(graph, y, all_inputs([-2, 0], [0, 3]))
    assert values[:4].tolist() == [[9, 4], [9, -5], [9, 6], [9, 0]]
    assert y.node.noise.tolist() == [1, 1]


def test_moves_and_broadcasting():
    graph, x = graph_of([0] * 6, [5] * 6)
    pairs = graph.reshape("pairs", x, (2, 3))
    turned = graph.take("turned", pairs, np.array([1, 0, 1]))
    total = graph.sum("total", turned, 1)
    assert total.node.bounds == (0, 15)
    column, row = graph.reshape("column", total, (3, 1)), graph.reshape("row", total, (1, 3))
    less, more = graph.subtract("less", column, row), graph.add("more", column, row)
    inputs = np.arange(12).reshape(2, 6) % 6
    sums = inputs.reshape(2, 2, 3)[:, [1, 0, 1]].sum(2)
    assert outcome(graph, less, inputs).tolist() == (sums[:, :, None] - sums[:, None]).tolist()
    assert outcome(graph, more, inputs).tolist() == (sums[:, :, None] + sums[:, None]).tolist()
    assert less.node.bounds == (-15, 15)
    assert less.node.noise[0, 0] == 6


def test_a_table_that_is_too_wide_is_refused_by_name():
    graph, x = graph_of([-3, 0], [0, 13], max_table_bits=4)
    with pytest.raises(ValueError, match=r"^wide: its table would need 5 bits for inputs in \[-3, 13\], more than 4"):
        graph.lookup("wide", x, np.abs)
    graph, x = graph_of([-3, 0], [0, 13])
    assert graph.lookup("fits", x, np.abs).node.bounds == (0, 13)


@pytest.mark.parametrize("values", [range(3), range(4)], ids=["left", "right"])
def test_a_table_that_is_too_short_is_refused_by_name(values):
    graph, x = graph_of([0], [3])
    first = 1 if len(values) == 3 else -1
    with pytest.raises(ValueError, match=r"^short: inputs in \[0, 3\], but its table covers"):
        graph.lookup("short", x, Table(np.array(values), first))


@pytest.mark.parametrize(
    ("add", "message"),
    [
        (lambda g, x: g.affine("a", x, np.ones((3, 1), int)), r"^a: weights \(3, 1\) do not fit inputs \(2,\)"),
        (lambda g, x: g.affine("a", x, np.ones((2, 1))), "^a: integers are needed, got float64"),
        (lambda g, x: g.affine("a", x, np.ones((2, 1), int), np.array([0.5])), "^a: integers are needed"),
        (lambda g, x: g.lookup("a", x, Table(np.ones((5, 4), int), 0)), r"^a: tables \(5, 4\) do not fit"),
        (lambda g, x: g.lookup("a", x, Table(np.ones(4), 0)), "^a: integers are needed"),
        (lambda g, x: g.sum("a", x, 1), r"^a: \(2,\) has no axis 1"),
        (lambda g, x: g.reshape("a", x, (3,)), r"^a: \(2,\) cannot become \(3,\)"),
        (lambda g, x: g.take("a", x, np.array([2])), "^a: indices must be rows"),
        (lambda g, x: g.take("a", x, np.array([-1])), "^a: indices must be rows"),
        (lambda g, x: g.add("a", x, g.reshape("b", x, (2, 1))), "^a: .* do not broadcast"),
        (lambda g, x: g.reshape("x", x, (2, 1)), "^two nodes are called x"),
        (lambda g, x: g.sum("a", graph_of([0, 0], [3, 3])[1], 0), "^a: its inputs belong to another graph"),
        (lambda g, x: g.affine("a", x, np.full((2, 1), 2**20)), r"^a: values in \[0, 6291456\], more than 1048576"),
        (lambda g, x: g.affine("a", x, np.full((2, 1), 2**62)), r"^a: a number in .* is more than 1048576"),
        (lambda g, x: g.lookup("a", x, Table(np.full(4, -(2**62)), 0)), r"^a: a number in .* is more than 1048576"),
        (lambda g, x: g.input("y", np.zeros(1, int), np.ones(1, int)), "^y: a graph has one input"),
    ],
)
def test_bad_nodes_are_refused(add, message):
    graph, x = graph_of([0, 0], [3, 3])
    count = len(graph.nodes)
    with pytest.raises(ValueError, match=message):
        add(graph, x)
    assert len(graph.nodes) <= count + 1


def test_bad_inputs_are_refused():
    graph, x = graph_of([0, -1], [3, 0])
    for inputs, message in [
        (np.zeros((2, 2)), "x: integers are needed, got float64"),
        (np.zeros((2, 3), int), r"x: each example must have shape \(2,\), got \(3,\)"),
        (np.array([[0, 0], [4, 0]]), r"x: number 4 at \[0\] of example 1 is outside \[0, 3\]"),
        (np.array([[0, 1]]), r"x: number 1 at \[1\] of example 0 is outside \[-1, 0\]"),
    ]:
        with pytest.raises(ValueError, match=message):
            graph.evaluate(inputs, x)
    with pytest.raises(ValueError, match="must bound the elements"):
        Graph().input("x", np.array([1]), np.array([0]))
