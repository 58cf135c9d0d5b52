"""Random classifiers in integers, of every kind of attention. Numpy only: the engine's environment has no more."""

from __future__ import annotations

from typing import Literal

import numpy as np

from inhibitor_transformers.deploy.encrypted.attention import InhibitorScores
from inhibitor_transformers.deploy.encrypted.classifier import IntegerClassifier
from inhibitor_transformers.deploy.encrypted.dot_product import ReluScores, SoftmaxScores
from inhibitor_transformers.deploy.encrypted.graph import Array, Table
from inhibitor_transformers.deploy.encrypted.levels import Projection, ValueLevels, level_tables

Kind = Literal["inhibitor", "softmax", "relu"]
KINDS: tuple[Kind, ...] = ("inhibitor", "softmax", "relu")
INPUT_QMAX, FAN_IN = 3, 5


def random_classifier(
    kind: Kind,
    *,
    tokens: int = 4,
    features: int = 10,
    width: int = 4,
    levels: int = 3,
    values: ValueLevels | None = None,
    tied: bool = False,
    classes: int = 3,
    seed: int = 0,
) -> IntegerClassifier:
    """A classifier whose tables use all of their levels; dot products have levels about 0."""
    rng = np.random.default_rng(seed)
    values = values or ValueLevels(2, signed=False)
    low = 0 if kind == "inhibitor" else -((levels - 1) // 2)
    query, key, value = (
        random_projection(rng, features, width, least, most)
        for least, most in (
            (low, low + levels - 1),
            (low, low + levels - 1),
            (-values.qmax if values.signed else 0, values.qmax),
        )
    )
    return IntegerClassifier(
        tokens=tokens,
        input_qmax=INPUT_QMAX,
        query=query,
        key=None if tied else key,
        value=value,
        levels=levels,
        value_levels=values,
        scores=random_scores(rng, kind, tokens, width * max(-low, low + levels - 1) ** 2, values.qmax),
        head=rng.integers(-1, 2, (tokens, width, classes)),
        bias=rng.integers(-9, 10, classes),
    )


def random_projection(rng: np.random.Generator, features: int, width: int, low: int, high: int) -> Projection:
    weights = [1] * FAN_IN + [-1] * FAN_IN + [0] * (features - 2 * FAN_IN)
    weight = np.stack([rng.permutation(weights) for _ in range(width)], 1)
    most = FAN_IN * INPUT_QMAX
    scale = (high - low) / rng.uniform(3, 12, width)
    return Projection(weight, level_tables(scale, rng.uniform(low, high, width), -most, most, low, high), -most)


def random_scores(
    rng: np.random.Generator, kind: Kind, tokens: int, product: int, qmax: int
) -> InhibitorScores | SoftmaxScores | ReluScores:
    """Scores that differ between pairs. product: the greatest |q·k|."""
    if kind == "inhibitor":
        return InhibitorScores(delta=-int(rng.integers(1, 4)), shift=int(rng.integers(-1, 2)))
    span = np.arange(-product, product + 1)
    if kind == "relu":
        return ReluScores(Table(np.clip(span, 0, qmax), -product), qmax)
    top, slope = 31 // tokens, 0.6
    exponential = np.rint(top * np.exp(slope * (span - product / 2))).astype(np.int64).clip(0, top)
    total = np.arange(tokens * top + 1)
    logarithm = np.rint(np.log(total.clip(1) / top) / slope).astype(np.int64)
    wide = np.arange(-3 * product, 3 * product + 1)
    probability = np.rint(qmax * np.exp(slope * (wide - product / 2))).clip(0, qmax).astype(np.int64)
    return SoftmaxScores(Table(exponential, -product), Table(logarithm, 0), Table(probability, -3 * product), qmax)


def random_inputs(classifier: IntegerClassifier, count: int, seed: int = 0) -> Array:
    """Levels (count, n, I), the first two examples all least and all greatest."""
    shape = (count, classifier.tokens, classifier.query.weight.shape[0])
    inputs = np.random.default_rng(seed).integers(0, classifier.input_qmax, shape, endpoint=True)
    inputs[:1], inputs[1:2] = 0, classifier.input_qmax
    return inputs


def logits_by_formula(classifier: IntegerClassifier, x: Array) -> list[int]:
    """The logits of one example (n, I), one Python integer at a time, from the formulas of the modules."""
    q, v = _levels(classifier.query, x), _levels(classifier.value, x)
    k = q if classifier.key is None else _levels(classifier.key, x)
    weigh = {InhibitorScores: _inhibit, SoftmaxScores: _softmax, ReluScores: _relu}[type(classifier.scores)]
    logits = [int(b) for b in classifier.bias]
    for i in range(classifier.tokens):
        sums = weigh(classifier, q[i], k, v)
        for feature, total in enumerate(sums):
            for c in range(len(logits)):
                logits[c] += total * int(classifier.head[i, feature, c])
    return logits


def _levels(projection: Projection, x: Array) -> list[list[int]]:
    return [
        [
            int(
                projection.tables[
                    f, int(sum(a * w for a, w in zip(row, projection.weight[:, f], strict=True))) - projection.first
                ]
            )
            for f in range(projection.weight.shape[1])
        ]
        for row in x.tolist()
    ]


def _inhibit(classifier: IntegerClassifier, q: list[int], k: list[list[int]], v: list[list[int]]) -> list[int]:
    scores, levels = classifier.scores, classifier.value_levels
    assert isinstance(scores, InhibitorScores)
    out = [0] * len(v[0])
    for key, values in zip(k, v, strict=True):
        distance = sum(abs(a - b) for a, b in zip(q, key, strict=True))
        z = min(int((max(distance + scores.delta, 0) / 2**scores.shift + 0.5) // 1), levels.qmax)
        for f, value in enumerate(values):
            kept = max(abs(value) - z, 0)
            out[f] += kept if value > 0 else -kept
    return out


def _dots(q: list[int], k: list[list[int]]) -> list[int]:
    return [sum(a * b for a, b in zip(q, key, strict=True)) for key in k]


def _softmax(classifier: IntegerClassifier, q: list[int], k: list[list[int]], v: list[list[int]]) -> list[int]:
    scores = classifier.scores
    assert isinstance(scores, SoftmaxScores)
    dots = _dots(q, k)
    total = sum(_read(scores.exponential, s) for s in dots)
    weights = [_read(scores.probability, s - _read(scores.logarithm, total)) for s in dots]
    return _weighted(weights, v)


def _relu(classifier: IntegerClassifier, q: list[int], k: list[list[int]], v: list[list[int]]) -> list[int]:
    assert isinstance(classifier.scores, ReluScores)
    return _weighted([_read(classifier.scores.weight, s) for s in _dots(q, k)], v)


def _read(table: Table, x: int) -> int:
    return int(table.values[x - table.first])


def _weighted(weights: list[int], v: list[list[int]]) -> list[int]:
    return [sum(p * row[f] for p, row in zip(weights, v, strict=True)) for f in range(len(v[0]))]
