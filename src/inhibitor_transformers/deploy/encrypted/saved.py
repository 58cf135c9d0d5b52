"""A trained classifier with its encoder in a folder: `model.json` says what it is, `model.npz` holds the integers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .attention import InhibitorScores
from .classifier import IntegerClassifier
from .dot_product import ReluScores, SoftmaxScores
from .encoders import Encoder, encoder_from_state, require_keys
from .files import read_arrays, read_json, write_folder
from .graph import Table
from .levels import Projection, ValueLevels

FORMAT = 1
_JSON, _NPZ, EXAMPLES = "model.json", "model.npz", "examples.json"
_TABLES = {"softmax": ("exponential", "logarithm", "probability"), "relu": ("weight",), "inhibitor": ()}
_PROJECTIONS = ("query", "key", "value")


class SavedModel(NamedTuple):
    """info: what was said of it when it was saved, such as its accuracies."""

    classifier: IntegerClassifier
    encoder: Encoder
    info: dict[str, Any]


def save_model(
    folder: Path,
    classifier: IntegerClassifier,
    encoder: Encoder,
    info: Mapping[str, Any],
    examples: Sequence[Any] | None = None,
) -> Path:
    """Write a folder that appears whole or not at all.

    info: anything that JSON can hold; "labels", if given, are the names of the classes. examples: raw inputs, written
    as a list to examples.json. Raises ValueError if the folder exists or cannot be made.
    """
    description, arrays = _describe(classifier)
    settings, encoder_arrays = encoder.state()
    arrays |= {f"encoder.{name}": array for name, array in encoder_arrays.items()}
    model = {"format": FORMAT, "classifier": description, "encoder": settings, "info": dict(info)}
    others = {} if examples is None else {EXAMPLES: json.dumps(list(examples)).encode()}
    return write_folder(folder, {_JSON: model}, {_NPZ: arrays}, others)


def load_model(folder: Path) -> SavedModel:
    """What `save_model` wrote. Raises ValueError that says what is absent, or wrong in which file."""
    record, arrays = read_json(folder / _JSON), read_arrays(folder / _NPZ)
    try:
        if record.get("format") != FORMAT:
            raise ValueError(f"format {record.get('format')!r}, this version reads {FORMAT}")
        require_keys(_JSON, record, {"format", "classifier", "encoder", "info"})
        of_encoder = {name.removeprefix("encoder."): a for name, a in arrays.items() if name.startswith("encoder.")}
        of_classifier = {name: a for name, a in arrays.items() if not name.startswith("encoder.")}
        encoder = encoder_from_state(_object(record, "encoder"), of_encoder)
        classifier = _classifier(_object(record, "classifier"), of_classifier)
        wanted = (classifier.tokens, classifier.query.weight.shape[-2], classifier.input_qmax)
        if (*encoder.shape, encoder.input_qmax) != wanted:
            raise ValueError("the encoder makes other tokens, inputs or levels than the classifier takes")
        return SavedModel(classifier, encoder, _object(record, "info"))
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from None


def _describe(classifier: IntegerClassifier) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    scores, arrays = classifier.scores, {"head": classifier.head, "bias": classifier.bias}
    firsts: dict[str, int] = {}
    if isinstance(scores, InhibitorScores):
        settings: dict[str, Any] = {
            "kind": "inhibitor",
            "delta": scores.delta,
            "shift": scores.shift,
            "sign": scores.sign,
            "centered": scores.centered,
        }
    else:
        kind = "softmax" if isinstance(scores, SoftmaxScores) else "relu"
        settings = {"kind": kind, "qmax": scores.qmax}
        for name in _TABLES[kind]:
            table: Table = getattr(scores, name)
            arrays[f"scores.{name}"], firsts[f"scores.{name}"] = table.values, table.first
    for name in _PROJECTIONS:
        if (projection := getattr(classifier, name)) is not None:
            arrays |= {f"{name}.weight": projection.weight, f"{name}.tables": projection.tables}
            firsts[name] = projection.first
    description = {
        "tokens": classifier.tokens,
        "input_qmax": classifier.input_qmax,
        "levels": classifier.levels,
        "values": {"qmax": classifier.value_levels.qmax, "signed": classifier.value_levels.signed},
        "scores": settings,
        "firsts": firsts,
    }
    return description, arrays


def _classifier(record: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> IntegerClassifier:
    require_keys("classifier", record, {"tokens", "input_qmax", "levels", "values", "scores", "firsts"})
    values, scores, firsts = (_object(record, name) for name in ("values", "scores", "firsts"))
    require_keys("values", values, {"qmax", "signed"})
    kind = scores.get("kind")
    if not isinstance(kind, str) or kind not in _TABLES:
        raise ValueError(f"scores: kind must be one of {list(_TABLES)}, got {kind!r}")
    present = [name for name in _PROJECTIONS if name != "key" or "key" in firsts]
    tables = [f"scores.{name}" for name in _TABLES[kind]]
    require_keys("firsts", firsts, {*present, *tables})
    wanted = {f"{name}.{part}" for name in present for part in ("weight", "tables")}
    require_keys(_NPZ, arrays, wanted | {*tables, "head", "bias"})
    for name, array in arrays.items():
        if array.dtype.kind not in "iu":
            raise ValueError(f"{name}: integers are needed, got {array.dtype}")
    projections = {name: _projection(name, arrays, _integer(firsts, name)) for name in present}
    qmax, signed = _integer(values, "qmax"), values["signed"]
    if type(signed) is not bool:
        raise ValueError(f"signed must be true or false, got {signed!r}")
    made = IntegerClassifier(
        tokens=_integer(record, "tokens"),
        input_qmax=_integer(record, "input_qmax"),
        query=projections["query"],
        key=projections.get("key"),
        value=projections["value"],
        levels=_integer(record, "levels"),
        value_levels=ValueLevels(qmax, signed),
        scores=_scores(kind, scores, firsts, arrays),
        head=arrays["head"],
        bias=arrays["bias"],
    )
    _check_shapes(made)
    return made


def _projection(name: str, arrays: Mapping[str, NDArray[Any]], first: int) -> Projection:
    weight, tables = arrays[f"{name}.weight"], arrays[f"{name}.tables"]
    if weight.ndim not in (2, 3) or not np.isin(weight, (-1, 0, 1)).all():
        raise ValueError(f"{name}.weight: −1, 0 and 1 are needed, (I, d) or (n, I, d)")
    if tables.ndim not in (2, 3) or tables.shape[-2] != weight.shape[-1]:
        raise ValueError(f"{name}.tables: {tables.shape} do not fit weights {weight.shape}")
    return Projection(weight, tables, first)


def _scores(
    kind: str, scores: Mapping[str, Any], firsts: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
) -> InhibitorScores | SoftmaxScores | ReluScores:
    if kind == "inhibitor":
        require_keys("scores", scores, {"kind", "delta", "shift", "sign", "centered"})
        if type(scores["centered"]) is not bool or scores["sign"] not in (-1, 1):
            raise ValueError("scores: centered must be true or false, sign 1 or −1")
        return InhibitorScores(
            _integer(scores, "delta"), _integer(scores, "shift"), _integer(scores, "sign"), scores["centered"]
        )
    require_keys("scores", scores, {"kind", "qmax"})
    names = [f"scores.{name}" for name in _TABLES[kind]]
    if any(arrays[name].ndim != 1 for name in names):
        raise ValueError("scores: tables must have one axis")
    tables = [Table(arrays[name], _integer(firsts, name)) for name in names]
    qmax = _integer(scores, "qmax")
    if kind == "relu":
        return ReluScores(tables[0], qmax)
    exponential, logarithm, probability = tables
    return SoftmaxScores(exponential, logarithm, probability, qmax)


def _check_shapes(made: IntegerClassifier) -> None:
    """Raise ValueError unless a graph can be made of it, which checks shapes and proves ranges."""
    if made.head.ndim != 3 or made.bias.ndim != 1:
        raise ValueError(f"head {made.head.shape}, bias {made.bias.shape}: (n, d, C) and (C,) are needed")
    made.plan()


def _object(record: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = record[name]
    if not isinstance(value, dict):
        raise ValueError(f"{name} must be an object, got {value!r}")
    return value


def _integer(record: Mapping[str, Any], name: str) -> int:
    value = record[name]
    if type(value) is not int:
        raise ValueError(f"{name} must be an integer, got {value!r}")
    return value
