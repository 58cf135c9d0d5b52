"""Every class runs, learns, and comes back from disk as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from tests.models.tiny import (
    CLASSES,
    POSITIONS,
    VOCAB,
    WIDTH,
    auto_class,
    inputs_for,
    labels_for,
    outputs_of,
    same_outputs,
    student_class,
    texts,
    tiny_config,
    tiny_student,
)

SHAPES = {
    "Model": {"last_hidden_state": (3, 7, 16)},
    "ForMaskedLM": {"logits": (3, 7, 100)},
    "ForSequenceClassification": {"logits": (3, 2)},
    "ForTokenClassification": {"logits": (3, 7, 2)},
    "ForQuestionAnswering": {"start_logits": (3, 7), "end_logits": (3, 7)},
    "ForMultipleChoice": {"logits": (3, 2)},
}
SCALARS = ("gamma", "eta", "delta", "length_exponent")


def gradients(model: PreTrainedModel, name: str, **options: Any) -> dict[str, Tensor | None]:
    model.zero_grad()
    outputs = model(**inputs_for(name), **labels_for(name), **options)
    (outputs.last_hidden_state.square().sum() if name == "Model" else outputs.loss).backward()
    return {key: parameter.grad for key, parameter in model.named_parameters()}


@pytest.mark.parametrize("name", CLASSES)
def test_shapes(name: str) -> None:
    outputs = outputs_of(tiny_student(name), **inputs_for(name))
    assert {key: tuple(value.shape) for key, value in outputs.items()} == SHAPES[name]
    assert all(value.isfinite().all() for value in outputs.values())


@pytest.mark.parametrize("name", CLASSES)
def test_tuples_on_request(name: str) -> None:
    model, inputs = tiny_student(name), inputs_for(name)
    expected = list(outputs_of(model, **inputs).values())
    found = model(**inputs, return_dict=False)
    assert isinstance(found, tuple)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("name", CLASSES)
def test_every_weight_learns(name: str) -> None:
    model = tiny_student(name, type_vocab_size=2, inhibitor_length_reference=3).train()
    assert [key for key, grad in gradients(model, name).items() if grad is None or not grad.any()] == []


@pytest.mark.parametrize("name", CLASSES)
def test_saved_and_loaded_to_the_same_bits(name: str, tmp_path: Path) -> None:
    model, inputs = tiny_student(name, type_vocab_size=2, inhibitor_signed=False), inputs_for(name)
    expected = outputs_of(model, **inputs)
    model.save_pretrained(tmp_path)
    for loader in (student_class(name), auto_class(name)):
        loaded = loader.from_pretrained(tmp_path)
        assert type(loaded) is student_class(name)
        assert not loaded.training
        assert same_outputs(outputs_of(loaded, **inputs), expected)


@pytest.mark.parametrize("name", CLASSES)
def test_auto_classes_build_from_a_config(name: str) -> None:
    assert type(auto_class(name).from_config(tiny_config())) is student_class(name)


def test_masked_lm_projection_is_tied_to_the_word_embeddings(tmp_path: Path) -> None:
    model = tiny_student("ForMaskedLM")
    model.save_pretrained(tmp_path)
    for m in (model, student_class("ForMaskedLM").from_pretrained(tmp_path)):
        assert m.vocab_projector.weight is m.distilbert.embeddings.word_embeddings.weight
    assert model.get_output_embeddings() is model.vocab_projector
    model.resize_token_embeddings(120)
    assert model.vocab_projector.weight is model.get_input_embeddings().weight
    assert outputs_of(model, **texts())["logits"].shape[-1] == 120


def test_untied_masked_lm(tmp_path: Path) -> None:
    model = tiny_student("ForMaskedLM", tie_word_embeddings=False)
    assert not torch.equal(model.vocab_projector.weight, model.get_input_embeddings().weight)
    model.save_pretrained(tmp_path)
    again = student_class("ForMaskedLM").from_pretrained(tmp_path)
    inputs = texts()
    assert same_outputs(outputs_of(again, **inputs), outputs_of(model, **inputs))


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated")  # its new name is newer than 5.20
@pytest.mark.parametrize("name", ["Model", "ForMaskedLM"])
@pytest.mark.parametrize("use_reentrant", [False, True])
def test_gradient_checkpointing_changes_no_gradient(name: str, use_reentrant: bool) -> None:
    model = tiny_student(name, dropout=0.0, attention_dropout=0.0).train()
    torch.manual_seed(1)
    expected = gradients(model, name)
    model.gradient_checkpointing_enable({"use_reentrant": use_reentrant})
    if use_reentrant:
        model.enable_input_require_grads()
    blocks_run = count_forwards(model.base_model.transformer.layer[0])
    torch.manual_seed(1)
    found = gradients(model, name)
    assert len(blocks_run) == 2  # once more in the backward pass
    for key, gradient in expected.items():
        torch.testing.assert_close(found[key], gradient, rtol=1e-6, atol=1e-7, msg=key)


def count_forwards(module: torch.nn.Module) -> list[int]:
    calls: list[int] = []
    module.attention.register_forward_hook(lambda *_: calls.append(1))
    return calls


def test_compiles_in_one_graph_for_every_length() -> None:
    model = tiny_student(type_vocab_size=2)
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend="aot_eager")
    for length in (7, 11):
        inputs = texts(length=length)
        expected = model(**inputs).last_hidden_state
        torch.testing.assert_close(compiled(**inputs).last_hidden_state, expected)


def test_scalars_stay_float32_in_a_half_precision_model(tmp_path: Path) -> None:
    model, inputs = tiny_student("ForSequenceClassification"), texts()
    model.save_pretrained(tmp_path / "full")
    half = type(model).from_pretrained(tmp_path / "full", dtype=torch.bfloat16)
    check_half(half, model)
    half.save_pretrained(tmp_path / "half")
    again = type(model).from_pretrained(tmp_path / "half")  # the dtype is read from the config
    check_half(again, model)
    logits = outputs_of(half, **inputs)["logits"]
    assert logits.dtype == torch.bfloat16
    assert torch.equal(outputs_of(again, **inputs)["logits"], logits)
    torch.testing.assert_close(logits.float(), outputs_of(model, **inputs)["logits"], rtol=0.1, atol=0.1)


def check_half(half: PreTrainedModel, full: PreTrainedModel) -> None:
    exact = dict(full.named_parameters())
    for name, parameter in half.named_parameters():
        is_scalar = name.endswith(SCALARS)
        assert parameter.dtype == (torch.float32 if is_scalar else torch.bfloat16), name
        assert not is_scalar or torch.equal(parameter, exact[name]), name


def test_dropout_draws_in_training_only() -> None:
    model, inputs = tiny_student(dropout=0.0, attention_dropout=0.5), texts()
    still = [outputs_of(model, **inputs)["last_hidden_state"] for _ in range(2)]
    moving = [outputs_of(model.train(), **inputs)["last_hidden_state"] for _ in range(2)]
    assert torch.equal(*still)
    assert not torch.equal(*moving)


def test_config_fields_change_what_is_computed() -> None:
    inputs = texts()
    model = tiny_student()
    plain = outputs_of(model, **inputs)["last_hidden_state"]
    changes: list[dict[str, Any]] = [
        {"inhibitor_signed": False},
        {"inhibitor_center": "none"},
        {"inhibitor_value_center": "mean"},
        {"inhibitor_length_reference": 10},
    ]
    for fields in changes:
        other = student_class("Model")(tiny_config(**fields)).eval()
        other.load_state_dict(model.state_dict())
        assert not torch.allclose(outputs_of(other, **inputs)["last_hidden_state"], plain, atol=1e-3), fields
    other = student_class("Model")(tiny_config(layer_norm_eps=1e-3)).eval()
    assert {m.eps for m in other.modules() if isinstance(m, torch.nn.LayerNorm)} == {1e-3}


@pytest.mark.parametrize("name", ["Model", "ForSequenceClassification", "ForMultipleChoice"])
def test_a_text_longer_than_the_model_reads_is_refused_in_one_line(name):
    model = tiny_student(name)
    ids = torch.randint(5, VOCAB, (2, 2, POSITIONS + 1) if name == "ForMultipleChoice" else (2, POSITIONS + 1))
    with pytest.raises(ValueError, match=r"^an input of 49 tokens is longer than this model can read \(48\): cut it"):
        model(input_ids=ids)
    with pytest.raises(ValueError, match="an input of 49 tokens"):
        tiny_student()(inputs_embeds=torch.zeros(2, POSITIONS + 1, WIDTH))
