"""What cannot be loaded whole is refused in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForMaskedLM, AutoModelForSequenceClassification, BertModel

from inhibitor_transformers import InhibiDistilBertModel
from inhibitor_transformers.models.conversion.classes import find_converted_class
from inhibitor_transformers.models.pretrained import load_as_saved, load_config, load_pretrained, load_tokenizer
from tests.models.conversion import zoo
from tests.models.tiny import WORDS, save_tokenizer, teacher_config, tiny_student, tiny_teacher


def without(folder: Path, *keys: str) -> str:
    path = folder / "model.safetensors"
    save_file({k: v for k, v in load_file(path).items() if not k.startswith(keys)}, path, {"format": "pt"})
    return str(folder)


def refusal(source: str, auto_class: Any = AutoModel) -> str:
    with pytest.raises(ValueError, match=r"^[^\n]+$") as error:
        load_pretrained(source, auto_class)
    assert source in str(error.value)
    return str(error.value)


def test_a_model_in_evaluation_mode(tmp_path: Path) -> None:
    tiny_teacher("bert").train().save_pretrained(tmp_path)
    model = load_pretrained(str(tmp_path))
    assert type(model) is BertModel
    assert not model.training


def test_a_student(tmp_path: Path) -> None:
    tiny_student().save_pretrained(tmp_path)
    assert type(load_pretrained(str(tmp_path))) is InhibiDistilBertModel


def test_an_encoder_may_lack_its_pooler(tmp_path: Path) -> None:
    tiny_teacher("bert").save_pretrained(tmp_path)
    assert type(load_pretrained(without(tmp_path, "pooler"))) is BertModel


def test_a_classifier_may_not(tmp_path: Path) -> None:
    tiny_teacher("bert", "SequenceClassification").save_pretrained(tmp_path)
    message = refusal(without(tmp_path, "bert.pooler"), AutoModelForSequenceClassification)
    assert "does not have the weights of BertForSequenceClassification: bert.pooler.dense.bias" in message


@pytest.mark.parametrize("architecture", ["bert", "roberta", "distilbert"])
def test_a_head_that_would_be_made_up(architecture: str, tmp_path: Path) -> None:
    tiny_teacher(architecture).save_pretrained(tmp_path)
    assert "does not have a masked-LM head" in refusal(str(tmp_path), AutoModelForMaskedLM)
    assert "does not have the weights of" in refusal(str(tmp_path), AutoModelForSequenceClassification)
    tiny_teacher(architecture, "MaskedLM").save_pretrained(tmp_path)
    load_pretrained(str(tmp_path), AutoModelForMaskedLM)


def test_an_encoder_weight_that_would_be_made_up(tmp_path: Path) -> None:
    tiny_teacher("roberta").save_pretrained(tmp_path)
    assert "encoder.layer.1.output.dense" in refusal(without(tmp_path, "encoder.layer.1.output.dense"))


def test_what_is_no_model(tmp_path: Path) -> None:
    assert refusal(str(tmp_path)).startswith(f"cannot load {str(tmp_path)!r}")
    refusal(str(tmp_path / "nowhere"))
    refusal("nobody/nothing")
    (tmp_path / "config.json").write_text("{")
    refusal(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "no such type"}')
    assert "no such type" in refusal(str(tmp_path))


def test_broken_files(tmp_path: Path) -> None:
    tiny_student().save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    refusal(str(tmp_path))


def test_weights_of_another_shape(tmp_path: Path) -> None:
    tiny_teacher("bert").save_pretrained(tmp_path)
    teacher_config("bert", hidden_size=32).save_pretrained(tmp_path)
    refusal(str(tmp_path))


def test_tokenizer(tmp_path: Path) -> None:
    save_tokenizer(tmp_path)
    assert load_tokenizer(str(tmp_path)).tokenize("the old cat") == WORDS[:3]


@pytest.mark.parametrize("architecture", ["bert", "roberta", "distilbert"])
def test_a_tokenizer_is_not_made_up_from_a_config(architecture: str, tmp_path: Path) -> None:
    teacher_config(architecture).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"no tokenizer found in .*: it has no vocabulary"):
        load_tokenizer(str(tmp_path))


def test_no_tokenizer(tmp_path: Path) -> None:
    tiny_student().save_pretrained(tmp_path)
    for source in (str(tmp_path), str(tmp_path / "nowhere"), "nobody/nothing"):
        with pytest.raises(ValueError, match=r"^no tokenizer found in [^\n]+$"):
            load_tokenizer(source)


def test_the_real_teacher(minilm_path: Path) -> None:
    model, tokenizer = load_pretrained(str(minilm_path)), load_tokenizer(str(minilm_path))
    assert model.config.num_hidden_layers == 6
    assert model.config.vocab_size == len(tokenizer)


def test_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path.parent))
    tiny_teacher("bert").save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    source = f"~/{tmp_path.name}"
    assert type(load_as_saved(source)) is BertModel
    assert load_tokenizer(source).pad_token_id is not None


@pytest.mark.parametrize("name", ["GPT2", "ViT"])
def test_a_converted_model_keeps_its_head(name, tmp_path):
    zoo.student(name).save_pretrained(tmp_path)
    assert type(load_as_saved(tmp_path, encoder=False)) is type(zoo.student(name))


@pytest.mark.parametrize(
    "name", ["InhibitorNothing", "InhibitorGPT2Config", "GPT2LMHeadModel", "InhibitorPreTrainedModel", ""]
)
def test_names_of_no_converted_class(name):
    assert find_converted_class(name) is None


def test_a_loop_of_links(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    for load in (load_config, load_tokenizer, load_pretrained, load_as_saved):
        with pytest.raises(ValueError, match="loop is, or goes through, a loop of links"):
            load(str(tmp_path / "loop"))


@pytest.mark.parametrize("named", [5, "BertModel", [5], {"a": "b"}])
def test_architectures_that_are_no_names(named: object, tmp_path: Path) -> None:
    tiny_teacher("bert").save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"architectures": named}))
    for load in (load_config, load_pretrained, load_as_saved):
        with pytest.raises(ValueError, match=r"architectures in its config.json must list classes, got"):
            load(str(tmp_path))
