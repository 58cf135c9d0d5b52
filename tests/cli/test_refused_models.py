"""A model that cannot be used is refused in one line by every command, before any work."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, T5Config, T5ForSequenceClassification

from inhibitor_transformers import InhibiDistilBertModel
from tests.distill.fine_tuning import write
from tests.distill.tiny import VOCABULARY, bert, bert_tokenizer, distilbert, distilbert_tokenizer, reviews, saved


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "reviews"
    write(folder, "train", reviews(20))
    write(folder, "validation", reviews(10, seed=1))
    return folder


@pytest.fixture
def commands(tmp_path, texts, data, student):
    """Every command that loads a model, for a given one, into a folder that must not come into being."""
    output = tmp_path / "out"

    def of(model: str | Path) -> list[tuple[str | Path, ...]]:
        return [
            ("convert", model, output, "--text", texts, "--device", "cpu"),
            ("convert", model, output, "--softmax"),
            ("finetune", model, "--task", "custom", "--data", data, "-o", output, "--device", "cpu"),
            ("finetune", student, "--teacher", model, "--task", "custom", "--data", data, "-o", output),
            ("evaluate", model, "--task", "custom", "--data", data, "--device", "cpu"),
            ("evaluate", student, "--teacher", model, "--task", "agreement", "--text", texts, "--lengths", "16"),
            ("quantize", model, output, "--text", texts),
            ("export", model, output, "--runtime", "torch"),
        ]

    return of


def changed(source: str, folder: Path, name: str, **fields: object) -> Path:
    """A copy of a model whose JSON file `name` has other fields."""
    shutil.copytree(source, folder)
    file = folder / name
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))
    return folder


def test_a_file(commands, refused, tmp_path):
    (tmp_path / "model.txt").write_text("no model")
    for command in commands(tmp_path / "model.txt"):
        assert "model.txt': it is a file; name the folder of a model" in refused(*command)
    assert not (tmp_path / "out").exists()


def test_a_folder_without_a_model(commands, refused, tmp_path):
    (tmp_path / "empty").mkdir()
    for command in commands(tmp_path / "empty"):
        assert "empty': there is no config.json in this folder" in refused(*command)
    assert not (tmp_path / "out").exists()


def test_pickled_weights(refused, commands, teacher, tmp_path):
    shutil.copytree(teacher, tmp_path / "pickled")
    (tmp_path / "pickled" / "model.safetensors").unlink()
    torch.save(bert().state_dict(), tmp_path / "pickled" / "pytorch_model.bin")
    for command in commands(tmp_path / "pickled"):
        assert "its weights are in pytorch_model.bin, a pickle, which could run any code" in refused(*command)


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("config.json", {"model_type": "own", "auto_map": {"AutoConfig": "own.Config", "AutoModel": "own.Model"}}),
        ("tokenizer_config.json", {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own.Own", None]}}),
    ],
)
def test_code_of_its_own(name, fields, refused, student, texts, tmp_path):
    folder = changed(student, tmp_path / "own", name, **fields)
    (folder / "own.py").write_text("raise SystemExit('this was run')")
    message = refused("quantize", folder, tmp_path / "out", "--text", texts)
    assert "code that comes with a checkpoint is never run here" in message
    assert "trust_remote_code" not in message


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", ["", "{", "[]", "null"])
def test_damaged_json(name, content, refused, student, texts, tmp_path):
    shutil.copytree(student, tmp_path / "model")
    (tmp_path / "model" / name).write_text(content)
    assert f"{name} in it is damaged" in refused("export", tmp_path / "model", tmp_path / "out", "--runtime", "torch")


def test_damaged_weights(refused, student, data, tmp_path):
    shutil.copytree(student, tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    for command in (
        ("export", tmp_path / "model", tmp_path / "out", "--runtime", "torch"),
        ("finetune", tmp_path / "model", "--task", "custom", "--data", data, "-o", tmp_path / "out"),
    ):
        assert "its weights are damaged" in refused(*command)


def test_damaged_shards(refused, student, tmp_path):
    model = AutoModel.from_pretrained(student)
    model.save_pretrained(tmp_path / "model", max_shard_size="20KB")
    bert_tokenizer().save_pretrained(tmp_path / "model")
    index = tmp_path / "model" / "model.safetensors.index.json"
    for content in ("{}", "{", "[]"):
        index.write_text(content)
        message = refused("export", tmp_path / "model", tmp_path / "out", "--runtime", "torch")
        assert "model.safetensors.index.json in it is damaged" in message


@pytest.mark.parametrize("fields", [{"n_heads": "four"}, {"architectures": ["Trainer"]}, {"architectures": [5]}])
def test_a_config_of_wrong_types(fields, refused, student, tmp_path):
    folder = changed(student, tmp_path / "model", "config.json", **fields)
    assert str(next(iter(fields.values()))).strip("[]'") in refused("export", folder, tmp_path / "out")


def test_a_vocabulary_that_is_smaller_than_the_tokenizers(commands, refused, tmp_path):
    small = saved(InhibiDistilBertModel.from_teacher(bert(vocab_size=30)), tmp_path / "small")
    teacher = saved(bert(vocab_size=30), tmp_path / "small-teacher")
    last = len(VOCABULARY) - 1
    for command in [*commands(teacher)[:4], *commands(teacher)[5:6], *commands(small)[6:]]:
        message = refused(*command)
        assert f"the tokenizer has token ids up to {last}, the model embeddings for 30 tokens only" in message
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_that_cannot_pad(refused, student, texts, tmp_path):
    folder = changed(student, tmp_path / "model", "tokenizer_config.json", pad_token=None)
    assert "has no padding token" in refused("quantize", folder, tmp_path / "out", "--text", texts)


def test_an_encoder_decoder(commands, refused, tmp_path):
    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 4, "decoder_start_token_id": 0}
    model = T5ForSequenceClassification(T5Config(vocab_size=len(VOCABULARY), **sizes))
    for command in commands(saved(model, tmp_path / "t5"))[1:]:  # the first, convert, takes any model
        assert "is an encoder-decoder (t5); name an encoder" in refused(*command)
    assert not (tmp_path / "out").exists()


def test_a_start_with_segments_from_a_teacher_without(refused, student, texts, tmp_path):
    teacher = saved(distilbert(), tmp_path / "teacher", distilbert_tokenizer())
    stages = "[{calibrate: {lengths: [16]}}]"
    (tmp_path / "run.yaml").write_text(f"teacher: {teacher}\ntext: {texts}\nstages: {stages}\n")
    message = refused("distill", tmp_path / "run.yaml", "-o", tmp_path / "out", "--init-from", student)
    assert "has segments, which this distilbert teacher" in message
