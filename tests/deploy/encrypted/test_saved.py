"""Saved models come back as they were; damaged and foreign ones are refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from inhibitor_transformers.deploy.encrypted.encoders import PixelEncoder
from inhibitor_transformers.deploy.encrypted.levels import ValueLevels
from inhibitor_transformers.deploy.encrypted.saved import load_model, save_model
from inhibitor_transformers.deploy.encrypted.training.attention import KINDS
from inhibitor_transformers.deploy.encrypted.training.model import Architecture, Models
from inhibitor_transformers.deploy.encrypted.training.train import predict

ENCODER = PixelEncoder(np.arange(24).reshape(2, 12), highest=16, input_qmax=3)
INFO = {"accuracy": 0.5, "größe": [1, None]}


def classifier(kind="inhibitor", tied=False, pooled=False):
    made = Architecture(kind, tied, 2, 12, 4, 3, 3, 3, ValueLevels(3), pooled=pooled)
    return Models(made, 1).eval().classifier(0)


@pytest.fixture
def folder(tmp_path):
    save_model(tmp_path / "model", classifier(), ENCODER, INFO)
    return tmp_path / "model"


@pytest.mark.parametrize("pooled", [False, True], ids=["own weights", "pooled"])
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_saved_comes_back(tmp_path, kind, tied, pooled):
    made = classifier(kind, tied, pooled)
    save_model(tmp_path / "model", made, ENCODER, INFO, [[1, 2], [3, 4]])
    loaded = load_model(tmp_path / "model")
    x = torch.randint(4, (50, 2, 12)).numpy()
    assert np.array_equal(predict(loaded.classifier, x), predict(made, x))
    assert (loaded.classifier.key is None) == tied
    assert np.array_equal(loaded.encoder.order, ENCODER.order)
    assert loaded.info == INFO
    names = sorted(file.name for file in tmp_path.rglob("*"))
    assert names == ["examples.json", "model", "model.json", "model.npz"]
    assert json.loads((tmp_path / "model" / "examples.json").read_text()) == [[1, 2], [3, 4]]


def test_nothing_is_overwritten(folder):
    before = (folder / "model.json").read_bytes()
    with pytest.raises(ValueError, match="exists: name another folder"):
        save_model(folder, classifier("relu"), ENCODER, {})
    assert (folder / "model.json").read_bytes() == before


def test_a_model_that_cannot_be_written_leaves_nothing(tmp_path):
    with pytest.raises(TypeError):
        save_model(tmp_path / "model", classifier(), ENCODER, {"what": object()})
    assert list(tmp_path.iterdir()) == []


def change(folder, **arrays):
    with np.load(folder / "model.npz") as loaded:
        kept = dict(loaded) | arrays
    np.savez(folder / "model.npz", **{name: array for name, array in kept.items() if array is not None})


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"head": None}, "model.npz: head missing"),
        ({"query.tables": None}, "model.npz: query.tables missing"),
        ({"more": np.zeros(1, int)}, "model.npz: more unknown"),
        ({"scores.weight": np.zeros(1, int)}, "model.npz: scores.weight unknown"),
        ({"encoder.order": None}, "order missing"),
        ({"bias": np.zeros(3)}, "bias: integers are needed, got float64"),
        ({"bias": np.zeros(4, int)}, "bias"),
        ({"head": np.zeros((2, 4), int)}, r"\(n, d, C\) and \(C,\) are needed"),
        ({"key.weight": np.full((2, 12, 4), 2)}, "key.weight: −1, 0 and 1 are needed"),
        ({"value.weight": np.zeros((2, 12, 5), int)}, "value.tables"),
        ({"value.weight": np.ones((2, 12, 4), int)}, "v"),
        ({"encoder.order": np.arange(24).reshape(4, 6)}, "the encoder makes other tokens"),
    ],
)
def test_arrays_that_are_wrong_are_refused(folder, arrays, message):
    change(folder, **arrays)
    with pytest.raises(ValueError, match=message):
        load_model(folder)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("format",), 2, "format 2, this version reads 1"),
        (("more",), 2, "model.json: more unknown"),
        (("info",), None, "info must be an object"),
        (("classifier", "tokens"), "2", "tokens must be an integer, got '2'"),
        (("classifier", "tokens"), 3, "the encoder makes other tokens|x inputs|cannot become"),
        (("classifier", "more"), 2, "classifier: more unknown"),
        (("classifier", "values", "signed"), 1, "signed must be true or false"),
        (("classifier", "scores", "kind"), "cosine", "kind must be one of"),
        (("classifier", "scores", "delta"), 1.5, "delta must be an integer"),
        (("classifier", "scores", "sign"), 2, "sign 1 or −1"),
        (("classifier", "firsts", "query"), None, "query must be an integer"),
        (("encoder", "kind"), "sounds", "encoder: kind must be one of"),
    ],
)
def test_descriptions_that_are_wrong_are_refused(folder, path, value, message):
    record = json.loads((folder / "model.json").read_text())
    place = record
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    (folder / "model.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match=message):
        load_model(folder)


def test_damaged_files_are_refused(folder):
    data = (folder / "model.npz").read_bytes()
    (folder / "model.npz").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"model\.npz cannot be read"):
        load_model(folder)
    (folder / "model.json").write_text("{")
    with pytest.raises(ValueError, match=r"model\.json cannot be read"):
        load_model(folder)
    (folder / "model.json").unlink()
    with pytest.raises(ValueError, match=r"model\.json is absent"):
        load_model(folder)


def test_pickles_are_not_loaded(folder):
    change(folder, head=np.array([[[object()]]]))
    with pytest.raises(ValueError, match="Object arrays cannot be loaded"):
        load_model(folder)
