"""Quantized models are loaded and saved by transformers, to the bit, or not at all."""

from __future__ import annotations

import copy
import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForMaskedLM, AutoModelForSequenceClassification

from inhibitor_transformers import (
    InhibiDistilBertForMaskedLM,
    InhibiDistilBertForSequenceClassification,
    InhibiDistilBertModel,
)
from inhibitor_transformers.attention.integer import QuantizedScalars
from inhibitor_transformers.deploy.quantize import quantize
from inhibitor_transformers.models import InhibitorIntegersConfig
from inhibitor_transformers.models.quantized import Int8Embedding, Int8Linear
from tests.distill.tiny import bert, bert_tokenizer, saved, sentences

TEXTS = sentences(20)


def inputs() -> dict[str, torch.Tensor]:
    batch = bert_tokenizer()(TEXTS[:5], padding=True, truncation=True, max_length=40, return_tensors="pt")
    return {name: batch[name] for name in ("input_ids", "attention_mask")}


def quantized(model_class=InhibiDistilBertModel, **settings):
    model = model_class.from_teacher(bert(), segments="fold").eval()
    return quantize(model, TEXTS, bert_tokenizer(), max_length=40, **settings)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """(quantized model with all parts in 8 bits, where it is saved)"""
    model = quantized(embeddings=True)
    return model, saved(model, tmp_path_factory.mktemp("quantized"))


def test_reloaded_to_the_bit(folder):
    model, path = folder
    again = AutoModel.from_pretrained(path).eval()
    assert isinstance(again.config.quantization_config, InhibitorIntegersConfig)
    kinds = {type(m) for m in again.modules()}
    assert kinds >= {QuantizedScalars, Int8Linear, Int8Embedding}
    with torch.no_grad():
        assert torch.equal(again(**inputs()).last_hidden_state, model(**inputs()).last_hidden_state)


def test_a_loaded_model_asks_for_no_gradients(folder):
    """A part of them would arrive through residuals; asked for by hand, they are an error (test_transforms.py)."""
    again = AutoModel.from_pretrained(folder[1])
    assert not any(p.requires_grad for p in again.parameters())
    assert not again(**inputs()).last_hidden_state.requires_grad


def test_in_a_fresh_process_to_the_bit(folder, tmp_path):
    model, path = folder
    torch.save(inputs(), tmp_path / "inputs.pt")
    script = (
        "import sys, torch, inhibitor_transformers; from transformers import AutoModel\n"
        "model = AutoModel.from_pretrained(sys.argv[1]).eval()\n"
        "with torch.no_grad():\n"
        "    torch.save(model(**torch.load(sys.argv[2] + '/inputs.pt')).last_hidden_state, sys.argv[2] + '/out.pt')\n"
    )
    subprocess.run([sys.executable, "-c", script, path, str(tmp_path)], check=True, timeout=120)
    with torch.no_grad():
        assert torch.equal(torch.load(tmp_path / "out.pt"), model(**inputs()).last_hidden_state)


def test_saved_again_it_is_the_same(folder, tmp_path):
    _, path = folder
    AutoModel.from_pretrained(path).save_pretrained(tmp_path)
    first, second = (load_file(f"{p}/model.safetensors") for p in (path, tmp_path))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("settings", [{"bits": 16}, {"bits": 4}, {"linears": False}, {"bits": 16, "linears": False}])
def test_every_choice_is_loaded_as_it_was_saved(settings, tmp_path):
    model = quantized(**settings)
    saved(model, tmp_path)
    record = json.loads((tmp_path / "config.json").read_text())["quantization_config"]
    assert {name: record[name] for name in settings} == settings
    with torch.no_grad():
        again = AutoModel.from_pretrained(tmp_path).eval()
        assert torch.equal(again(**inputs()).last_hidden_state, model(**inputs()).last_hidden_state)


def test_with_a_head(tmp_path):
    model = quantized(InhibiDistilBertForSequenceClassification)
    saved(model, tmp_path)
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        assert torch.equal(again(**inputs()).logits, model(**inputs()).logits)


def test_with_tied_embeddings(tmp_path):
    model = quantized(InhibiDistilBertForMaskedLM)
    saved(model, tmp_path)
    again = AutoModelForMaskedLM.from_pretrained(tmp_path).eval()
    assert again.get_output_embeddings().weight is again.get_input_embeddings().weight
    with torch.no_grad():
        assert torch.equal(again(**inputs()).logits, model(**inputs()).logits)
    with pytest.raises(ValueError, match="project its output too"):
        quantized(InhibiDistilBertForMaskedLM, embeddings=True)


def test_padding_changes_no_bit(folder):
    """Not even the other rows of the batch do: the quantization of the inputs is fixed."""
    model, _ = folder
    batch = inputs()
    with torch.no_grad():
        together = model(**batch).last_hidden_state
        for row in range(5):
            length = int(batch["attention_mask"][row].sum())
            alone = model(input_ids=batch["input_ids"][row : row + 1, :length]).last_hidden_state
            assert torch.equal(alone[0], together[row, :length])


def test_scores_are_had(folder):
    model, _ = folder
    with torch.no_grad():
        scores = model(**inputs(), output_attentions=True).attentions
    padding = ~inputs()["attention_mask"].bool()
    assert all(z.shape == (5, 4, z.shape[2], z.shape[2]) for z in scores)
    assert all((z >= 0).all() and z[padding[:, None, None, :].expand_as(z)].isinf().all() for z in scores)


class TestRefusals:
    def test_another_dtype(self, folder):
        with pytest.raises(ValueError, match="computes in float32"):
            AutoModel.from_pretrained(folder[1], dtype=torch.bfloat16)

    def test_missing_weights(self, folder, tmp_path):
        saved(folder[0], tmp_path)
        tensors = load_file(tmp_path / "model.safetensors")
        lost = next(name for name in tensors if name.endswith("inhibitor.shift"))
        save_file({n: t for n, t in tensors.items() if n != lost}, tmp_path / "model.safetensors", {"format": "pt"})
        with pytest.raises(ValueError, match=r"does not hold the weights .* missing .*inhibitor.shift"):
            AutoModel.from_pretrained(tmp_path)

    def test_a_float_checkpoint_does_not_become_quantized_by_loading(self, tmp_path):
        saved(InhibiDistilBertModel.from_teacher(bert()), tmp_path)
        with pytest.raises(ValueError, match="require the model to be pre-quantized"):
            AutoModel.from_pretrained(tmp_path, quantization_config=InhibitorIntegersConfig())

    def test_settings_that_cannot_be(self):
        with pytest.raises(ValueError, match="bits must be one of"):
            InhibitorIntegersConfig(bits=7)
        with pytest.raises(ValueError, match="quant_method must be"):
            InhibitorIntegersConfig(quant_method="gptq")

    def test_a_folder_with_weights_per_feature(self, folder, tmp_path):
        """As they were quantized before one step per head."""
        saved(folder[0], tmp_path)
        config = json.loads((tmp_path / "config.json").read_text())
        del config["quantization_config"]["features"]
        (tmp_path / "config.json").write_text(json.dumps(config))
        with pytest.raises(ValueError, match=r"a weight for each feature.*quantize the float model anew \(`inhibit qu"):
            AutoModel.from_pretrained(tmp_path)

    @pytest.mark.parametrize("features", [[8], [8, 7], [8, 8.0], [8, 8, 8]])
    def test_features_that_cannot_be(self, features, folder, tmp_path):
        saved(folder[0], tmp_path)
        config = json.loads((tmp_path / "config.json").read_text())
        config["quantization_config"]["features"] = features
        (tmp_path / "config.json").write_text(json.dumps(config))
        with pytest.raises(ValueError, match="features must be 2 numbers of at least 8, got"):
            AutoModel.from_pretrained(tmp_path)

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("inhibitor_center", "none"),
            ("inhibitor_value_center", "mean"),
            ("inhibitor_signed", False),
            ("inhibitor_length_reference", 128),
        ],
    )
    def test_what_it_was_not_calibrated_for(self, field, value, folder, tmp_path):
        with pytest.raises(ValueError, match=rf"^this model was calibrated for {field}=.*, not {value!r}: quantize"):
            AutoModel.from_pretrained(folder[1], **{field: value})
        model = AutoModel.from_pretrained(folder[1])
        setattr(model.config, field, value)
        with pytest.raises(ValueError, match=rf"calibrated for {field}="):
            model.save_pretrained(tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_other_bits(self, folder, tmp_path):
        saved(folder[0], tmp_path)
        path = tmp_path / "config.json"
        fields = json.loads(path.read_text())
        fields["quantization_config"]["bits"] = 16
        path.write_text(json.dumps(fields))
        with pytest.raises(ValueError, match="calibrated for bits=8, not 16"):
            AutoModel.from_pretrained(tmp_path)

    def test_training(self, folder):
        model = AutoModel.from_pretrained(folder[1])
        model.config.attention_dropout = 0.1
        model.train()
        for block in model.transformer.layer:
            block.attention.dropout.p = 0.1
        with pytest.raises((ValueError, RuntimeError), match="cannot be trained"):
            model(**inputs())


class TestOtherFloatTypes:
    """Between its integers a quantized model computes in float32, and cannot be made anything else."""

    @pytest.mark.parametrize(
        "convert",
        [
            torch.nn.Module.bfloat16,
            torch.nn.Module.double,
            torch.nn.Module.half,
            lambda module: module.to(torch.bfloat16),
            lambda module: module.to(dtype=torch.float64, device="cpu"),
            lambda module: module.to(torch.zeros(1, dtype=torch.float16)),
        ],
    )
    def test_are_refused_and_change_nothing(self, convert, folder):
        model, _ = folder
        before = {name: tensor.dtype for name, tensor in model.state_dict().items()}
        for module in (model, torch.nn.ModuleDict({"inner": model})):
            with pytest.raises(ValueError, match="a quantized model computes in float32 between its integers"):
                convert(module)
        assert {name: tensor.dtype for name, tensor in model.state_dict().items()} == before

    def test_of_a_model_with_a_head_and_of_its_encoder(self):
        model = quantized(InhibiDistilBertForSequenceClassification)
        for module in (model, model.distilbert):
            with pytest.raises(ValueError, match=r"cannot be made torch\.bfloat16"):
                module.bfloat16()

    def test_devices_and_copies_are_not_concerned(self, folder):
        model, _ = folder
        model.to("cpu").to(torch.float32)
        assert copy.deepcopy(model).to("meta").device.type == "meta"

    def test_a_float_model_is_not_concerned(self):
        model = InhibiDistilBertModel.from_teacher(bert())
        assert model.bfloat16().dtype == torch.bfloat16
