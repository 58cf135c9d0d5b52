"""A checkpoint that does not fill the model is an error, unless what is missing is a new task head."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from inhibitor_transformers.models.loading import own_memory
from tests.models.tiny import CLASSES, auto_class, student_class, texts, tiny_config, tiny_student, tiny_teacher

Weights = dict[str, Tensor]
LOGGER = "inhibitor_transformers.models.loading"
BARE_QUERY = "transformer.layer.0.attention.q_lin.weight"
QUERY = f"distilbert.{BARE_QUERY}"


def saved(folder: Path, model: PreTrainedModel, edit: Callable[[Weights], object] = lambda _: None) -> Path:
    """The model's folder, its weights edited."""
    model.save_pretrained(folder)
    path = folder / "model.safetensors"
    weights = load_file(path)
    edit(weights)
    save_file(weights, path, {"format": "pt"})
    return folder


def in_base(name: str, key: str) -> str:
    return key if name == "Model" else f"distilbert.{key}"


@pytest.mark.parametrize(
    "key",
    [
        "embeddings.word_embeddings.weight",
        "embeddings.token_type_embeddings.weight",
        "transformer.layer.1.output_layer_norm.bias",
        "transformer.layer.0.attention.inhibitor.length_exponent",
    ],
)
@pytest.mark.parametrize("name", CLASSES)
def test_a_missing_encoder_weight(name: str, key: str, tmp_path: Path) -> None:
    folder = saved(tmp_path, tiny_student(name, type_vocab_size=2), lambda w: w.pop(in_base(name, key)))
    for other in CLASSES:
        with pytest.raises(ValueError, match=rf"does not hold the weights of InhibiDistilBert{other}: .*{key}"):
            student_class(other).from_pretrained(folder, ignore_mismatched_sizes=True)


@pytest.mark.parametrize("name", CLASSES)
def test_an_unexpected_weight(name: str, tmp_path: Path) -> None:
    folder = saved(tmp_path, tiny_student(name), lambda w: w.update({"other.weight": torch.ones(2)}))
    with pytest.raises(ValueError, match=r"1 unexpected \(other.weight\)$"):
        auto_class(name).from_pretrained(folder)


def test_an_unexpected_encoder_weight_even_for_another_head(tmp_path: Path) -> None:
    extra = {"distilbert.transformer.layer.2.attention.q_lin.weight": torch.ones(16, 16)}
    folder = saved(tmp_path, tiny_student("ForMaskedLM"), lambda w: w.update(extra))
    for name in ("ForMaskedLM", "Model", "ForTokenClassification"):
        with pytest.raises(ValueError, match=r"1 unexpected .*transformer\.layer\.2\.attention\.q_lin\.weight"):
            student_class(name).from_pretrained(folder)


def test_segments_that_the_config_denies(tmp_path: Path) -> None:
    tiny_student(type_vocab_size=2).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"1 unexpected \(embeddings.token_type_embeddings.weight\)"):
        student_class("Model").from_pretrained(tmp_path, type_vocab_size=0)


def test_a_weight_of_another_shape(tmp_path: Path) -> None:
    folder = saved(tmp_path, tiny_student("ForMaskedLM"), lambda w: w.update({QUERY: torch.ones(2, 4, 16)}))
    with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
        student_class("ForMaskedLM").from_pretrained(folder)
    for name in ("ForMaskedLM", "ForTokenClassification"):
        with pytest.raises(ValueError, match=rf"1 mismatched \({QUERY}\)"):
            student_class(name).from_pretrained(folder, ignore_mismatched_sizes=True)


@pytest.mark.parametrize("name", CLASSES[1:])
def test_the_same_class_without_its_head(name: str, tmp_path: Path) -> None:
    heads = {"ForMaskedLM": "vocab_transform.bias", "ForQuestionAnswering": "qa_outputs.weight"}
    key = heads.get(name, "classifier.weight")
    folder = saved(tmp_path, tiny_student(name), lambda w: w.pop(key))
    with pytest.raises(ValueError, match=rf"InhibiDistilBert{name}: 1 missing \({key}\)$"):
        student_class(name).from_pretrained(folder)


@pytest.mark.parametrize("name", CLASSES)
def test_from_every_other_head(name: str, tmp_path: Path) -> None:
    saved_model, inputs = tiny_student(name, type_vocab_size=2), texts()
    saved_model.save_pretrained(tmp_path)
    expected = saved_model.base_model(**inputs).last_hidden_state
    for other in CLASSES:
        loaded = auto_class(other).from_pretrained(tmp_path, ignore_mismatched_sizes=True)
        assert type(loaded) is student_class(other)
        assert torch.equal(loaded.base_model(**inputs).last_hidden_state, expected)


def test_a_new_head_on_a_trained_encoder(tmp_path: Path) -> None:
    tiny_student().save_pretrained(tmp_path)
    model = student_class("ForSequenceClassification").from_pretrained(tmp_path, num_labels=5)
    assert model.classifier.out_features == 5
    assert 0 < model.classifier.weight.std() < 0.05  # as the initializer draws it


def test_another_number_of_labels(tmp_path: Path) -> None:
    model = tiny_student("ForSequenceClassification")
    model.save_pretrained(tmp_path)
    load = student_class("ForSequenceClassification").from_pretrained
    with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
        load(tmp_path, num_labels=3)
    other = load(tmp_path, num_labels=3, ignore_mismatched_sizes=True)
    assert other.classifier.out_features == 3
    assert torch.equal(other.pre_classifier.weight, model.pre_classifier.weight)


def test_head_weights_of_another_task_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tiny_student("ForTokenClassification").save_pretrained(tmp_path)
    with caplog.at_level(logging.WARNING, LOGGER):
        student_class("ForSequenceClassification").from_pretrained(tmp_path)
    assert [r.message for r in caplog.records if r.name == LOGGER] == [
        "InhibiDistilBertForSequenceClassification takes over weights of a InhibiDistilBertForTokenClassification: "
        "classifier.bias, classifier.weight"
    ]


def test_nothing_is_said_where_nothing_is_odd(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tiny_student("ForMaskedLM").save_pretrained(tmp_path)
    with caplog.at_level(logging.WARNING, LOGGER):
        for name in CLASSES:
            student_class(name).from_pretrained(tmp_path)
    assert not [r for r in caplog.records if r.name == LOGGER]


@pytest.mark.parametrize("head", ["", "SequenceClassification"])
@pytest.mark.parametrize("name", CLASSES)
def test_a_softmax_checkpoint(name: str, head: str, tmp_path: Path) -> None:
    tiny_teacher("distilbert", head).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"inhibitor\.gamma.*becomes an inhibitor model through from_teacher"):
        student_class(name).from_pretrained(tmp_path, ignore_mismatched_sizes=True)


def test_loading_info_on_request(tmp_path: Path) -> None:
    tiny_student().save_pretrained(tmp_path)
    model, info = student_class("ForQuestionAnswering").from_pretrained(tmp_path, output_loading_info=True)
    assert type(model) is student_class("ForQuestionAnswering")
    assert set(info["missing_keys"]) == {"qa_outputs.weight", "qa_outputs.bias"}


def test_sharded_checkpoints(tmp_path: Path) -> None:
    model, inputs = tiny_student("ForMaskedLM"), texts()
    model.save_pretrained(tmp_path, max_shard_size="8KB")
    shards = sorted(tmp_path.glob("*.safetensors"))
    assert len(shards) > 1
    loaded = student_class("ForMaskedLM").from_pretrained(tmp_path)
    assert torch.equal(loaded(**inputs).logits, model(**inputs).logits)


def test_weights_leave_the_mapped_file(tmp_path: Path) -> None:
    tiny_student("ForMaskedLM").save_pretrained(tmp_path)
    model = student_class("ForMaskedLM").from_pretrained(tmp_path)
    assert not [name for name, p in model.named_parameters() if p.data_ptr() % 64]
    assert model.vocab_projector.weight is model.get_input_embeddings().weight


def test_own_memory_moves_what_is_not_aligned_and_nothing_else() -> None:
    model: Any = nn.Linear(2, 2)
    aligned, unaligned = model.weight.data_ptr(), torch.arange(3.0)[1:]
    model.bias.data = unaligned
    own_memory(model)
    assert model.weight.data_ptr() == aligned
    assert model.bias.data_ptr() % 64 == 0
    assert model.bias.tolist() == [1.0, 2.0]


def test_from_a_state_dict() -> None:
    model, inputs = tiny_student(), texts()
    again = student_class("Model").from_pretrained(None, config=tiny_config(), state_dict=model.state_dict())
    assert torch.equal(again(**inputs).last_hidden_state, model(**inputs).last_hidden_state)
    incomplete = {key: value for key, value in model.state_dict().items() if key != BARE_QUERY}
    with pytest.raises(ValueError, match=rf"1 missing \({BARE_QUERY}\)"):
        student_class("Model").from_pretrained(None, config=tiny_config(), state_dict=incomplete)


def saved_by_nobody(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "architectures"}))


@pytest.mark.parametrize("edit", [lambda folder: None, saved_by_nobody], ids=["named", "nobody"])
def test_a_lost_head_whoever_gives_the_configuration(edit: Callable[[Path], None], tmp_path: Path) -> None:
    folder = saved(tmp_path, tiny_student("ForSequenceClassification"), lambda w: w.pop("classifier.weight"))
    edit(folder)
    lying = tiny_config()
    lying.architectures = ["InhibiDistilBertModel"]
    for given in ({}, {"config": tiny_config()}, {"config": lying}):
        with pytest.raises(ValueError, match=r"does not hold the weights .* missing \(classifier.weight\)$"):
            student_class("ForSequenceClassification").from_pretrained(folder, **given)


def test_a_new_head_with_a_configuration_in_python(tmp_path: Path) -> None:
    folder = saved(tmp_path, tiny_student("ForMaskedLM"))
    model = student_class("ForSequenceClassification").from_pretrained(folder, config=tiny_config(num_labels=3))
    assert model.classifier.out_features == 3
