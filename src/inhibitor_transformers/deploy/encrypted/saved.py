"""A trained classifier with its encoder in a folder: `model.json` says what it is, `model.npz` holds the integers."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .attention import InhibitorScores
from .classifier import IntegerClassifier
from .dot_product import ReluScores, SoftmaxScores
from .encoders import Encoder, encoder_from_state, require_keys
from .graph import Table
from .levels import Projection, ValueLevels

FORMAT = 1
_JSON, _NPZ = "model.json", "model.npz"
_TABLES = {"softmax": ("exponential", "logarithm", "probability"), "relu": ("weight",), "inhibitor": ()}
_PROJECTIONS = ("query", "key", "value")


class SavedModel(NamedTuple):
    """info: what was said of it when it was saved, such as its accuracies."""

    classifier: IntegerClassifier
    encoder: Encoder
    info: dict[str, Any]


def save_model(folder: Path, classifier: IntegerClassifier, encoder: Encoder, info: Mapping[str, Any]) -> None:
    """Write a folder that appears whole or not at all.

    info: anything that JSON can hold. Raises FileExistsError if the folder exists.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} exists; choose another folder")
    description, arrays = _describe(classifier)
    settings, encoder_arrays = encoder.state()
    arrays |= {f"encoder.{name}": array for name, array in encoder_arrays.items()}
    text = json.dumps(
        {"format": FORMAT, "classifier": description, "encoder": settings, "info": dict(info)},
        indent=1,
        ensure_ascii=False,
    )
    folder.parent.mkdir(parents=True, exist_ok=True)
    half = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        (half / _JSON).write_text(text + "\n", encoding="utf-8")
        np.savez_compressed(half / _NPZ, **arrays)  # type: ignore[arg-type]
        half.chmod(0o777 & ~_umask())  # mkdtemp's folders are for their owner alone
        half.rename(folder)
    finally:
        shutil.rmtree(half, ignore_errors=True)


def load_model(folder: Path) -> SavedModel:
    """What `save_model` wrote. Raises FileNotFoundError, or ValueError that says what is wrong in which file."""
    try:
        record = json.loads((folder / _JSON).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{folder / _JSON} is not readable JSON: {error}") from None
    arrays = _read_arrays(folder / _NPZ)
    try:
        if not isinstance(record, dict):
            raise ValueError("not an object")
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
    made.graph()


def _read_arrays(file: Path) -> dict[str, NDArray[Any]]:
    try:
        with np.load(file, allow_pickle=False) as loaded:
            return dict(loaded)
    except (ValueError, zipfile.BadZipFile, EOFError, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(f"{file} is damaged: {error}") from None


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


def _umask() -> int:
    mask = os.umask(0o22)
    os.umask(mask)
    return mask
