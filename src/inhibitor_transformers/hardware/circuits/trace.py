"""What happens at the ports of an inhibitor head, cycle by cycle: its model, and the stimulus for its netlist."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .distance import sum_bits
from .inhibitor import Configuration, HeadShape, Integers, distances, inhibited_sums
from .head import KEY_DELAY, SCORE_DELAY

Flags = NDArray[np.bool_]


class Schedule(NamedTuple):
    """What the sequencer serves, (cycles,) each; numbers hold where their strobe is set."""

    row: Integers
    load: Flags
    key: Flags
    score: Flags
    value: Flags
    lane: Integers
    block: Integers
    feature: Integers


class Trace(NamedTuple):
    """Integers at ports, (cycles,) each. strobes: where an output counts; elsewhere it may be anything."""

    inputs: dict[str, Integers]
    outputs: dict[str, Integers]
    strobes: dict[str, Flags]
    bits: dict[str, int]
    """Read from memories and written to them, in all."""


def schedule(shape: HeadShape, keys: Integers, division: int) -> Schedule:
    """Rows one after the other, without a pause; keys: (rows,) as `Sequencer` has it. division: its cycles, centered."""
    columns: list[tuple[str, int, int, int, int]] = []  # state, row, lane, block, feature
    for row, count in enumerate(keys.tolist()):
        blocks = max(-(-count // shape.lanes), 1)
        columns.append(("load", row, 0, 0, 0))
        if shape.centered:
            columns += [("key", row, j % shape.lanes, j // shape.lanes, 0) for j in range(max(count, 1))]
            columns += [("wait", row, 0, 0, 0)] * (KEY_DELAY[True] + division)
        for block in range(blocks):
            columns += [("score" if shape.centered else "key", row, lane, block, 0) for lane in range(shape.lanes)]
            columns += [("wait", row, 0, block, 0)] * (SCORE_DELAY if shape.centered else KEY_DELAY[False])
            columns += [("value", row, 0, block, feature) for feature in range(shape.values)]
    columns += [("wait", len(keys) - 1, 0, 0, 0)] * 2  # until the last sum is out
    states, rows, lanes, block_numbers, features = (np.array(column) for column in zip(*columns, strict=True))
    strobes = (states == state for state in ("load", "key", "score", "value"))
    return Schedule(rows, *strobes, lanes, block_numbers, features)


def trace(
    shape: HeadShape,
    configuration: Configuration,
    q: Integers,
    k: Integers,
    v: Integers,
    keys: Integers,
    mask: Flags | None = None,
) -> Trace:
    """Rows q (n_q, F) over k (n_k, F) and v (n_k, d). keys: (n_q,), the row sees those before it, of which mask
    (n_q, n_k) leaves its True ones. Outputs contain A, at `total` where `complete`."""
    served = schedule(shape, keys, shape.distance_bits)
    row, index = served.row, served.block * shape.lanes + served.lane
    padding = -len(k) % shape.lanes
    seen = np.arange(len(k) + padding) < keys[:, None]
    seen[:, : len(k)] &= True if mask is None else mask
    seen[:, len(k) :] = False
    k, v = (np.pad(x, ((0, padding), (0, 0))) for x in (k, v))
    distance = distances(q, k)
    z = configuration.scores(shape, distance, seen)
    partial = np.stack(  # (blocks, n_q, d)
        [
            inhibited_sums(z[:, first : first + shape.lanes], v[first : first + shape.lanes])
            for first in range(0, len(k), shape.lanes)
        ]
    ).cumsum(0)
    visible = seen[row, np.minimum(index, len(k) - 1)] & (served.key | served.score)
    q_sum, k_sum = q.sum(-1), k.sum(-1)
    loaded = _latest(served.load)
    key_read = _latest(served.key & visible)
    value_read = _latest(served.value)
    summed = _later(served.value)
    at = np.maximum(np.arange(len(row)) - 1, 0)  # the cycle whose feature is summed
    added = _latest(summed & (served.block[at] > 0))
    written = _later(served.key & visible)
    scored = _latest(served.score & visible)
    magnitudes = np.abs(v) | (v < 0) << (shape.bits - 1)
    words = magnitudes.reshape(-1, shape.lanes, shape.values)[served.block[value_read], :, served.feature[value_read]]
    inputs = {
        "start": served.load.astype(np.int64),
        "keys": keys[row],
        "mask": visible.astype(np.int64),
        "negative": np.full(len(row), int(configuration.negative)),
        "shift": np.full(len(row), configuration.shift - shape.shift_range[0]),
        "bias": configuration.bias + (0 if shape.centered else q_sum[row[loaded]]) * np.ones(len(row), dtype=np.int64),
        "key_sum": k_sum[index[key_read]],
        "addend": partial[served.block[at][added] - 1, row[at][added], served.feature[at][added]],
    }
    inputs |= {f"q{f}": q[row[loaded], f] for f in range(shape.features)}
    inputs |= {f"k{f}": k[index[key_read], f] for f in range(shape.features)}
    inputs |= {f"v{lane}": words[:, lane] for lane in range(shape.lanes)}
    outputs = {
        "load": served.load,
        "key": served.key,
        "value": served.value,
        "lane": served.lane,
        "block": served.block,
        "feature": served.feature,
        "sum_valid": summed,
        "complete": (served.block[at] + 1) * shape.lanes >= keys[row[at]],
        "sum_feature": served.feature[at],
        "total": partial[served.block[at], row[at], served.feature[at]],
    }
    everywhere = np.ones(len(row), dtype=np.bool_)
    strobes = {name: everywhere for name in ("load", "key", "value", "sum_valid")}
    strobes |= {"lane": served.key | served.score, "feature": served.value}
    strobes |= {"block": served.key | served.score | served.value}
    strobes |= {name: summed for name in ("complete", "sum_feature", "total")}
    if shape.centered:
        inputs["buffer_in"] = distance[row[scored], index[scored]] - q_sum[row[scored]]
        outputs |= {"score": served.score, "buffer_write": written, "buffer_index": index[at]}
        outputs["buffer_out"] = distance[row[at], index[at]] - q_sum[row[at]]
        strobes |= {"score": everywhere, "buffer_write": everywhere, "buffer_index": written, "buffer_out": written}
    return Trace(inputs, {n: o.astype(np.int64) for n, o in outputs.items()}, strobes, {})


def _latest(strobe: Flags) -> Integers:
    """(cycles,) the cycle in which the strobe was last set; before the first one, that one."""
    when: Integers = np.maximum.accumulate(np.where(strobe, np.arange(len(strobe)), -1))
    return np.where(when < 0, strobe.argmax(), when)


def _later(strobe: Flags) -> Flags:
    return np.concatenate([[False], strobe[:-1]])
