"""What loading would not give back is not saved: wrapped weights, other shapes, settings that disagree."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune, spectral_norm, weight_norm

from inhibitor_transformers import InhibiDistilBertModel
from inhibitor_transformers.models.inhibidistilbert import InhibiDistilBertPreTrainedModel
from inhibitor_transformers.models.savable import check_savable
from tests.models.tiny import CLASSES, student_class, tiny_config, tiny_student

NAMES = r"^these weights of \w+ could not be loaded again: [^\n]*(merge_and_unload)[^\n]*; nothing was written$"


def attention(model: Any) -> Any:
    return model.base_model.transformer.layer[0].attention


def injected(model: Any) -> None:
    peft = pytest.importorskip("peft")
    peft.inject_adapter_in_model(peft.LoraConfig(target_modules=["q_lin"], r=2), model)


def lora(model: Any) -> None:
    peft = pytest.importorskip("peft")
    peft.get_peft_model(model, peft.LoraConfig(target_modules=["q_lin"], modules_to_save=["inhibitor"], r=2))


def exponential(model: Any) -> None:
    parametrize.register_parametrization(attention(model).inhibitor, "gamma", nn.Softplus(), unsafe=True)


WRAPPED: dict[str, Callable[[Any], object]] = {
    "lora": lora,
    "injected": injected,
    "prune": lambda m: prune.l1_unstructured(attention(m).q_lin, "weight", 0.5),
    "weight_norm": lambda m: parametrizations.weight_norm(attention(m).q_lin),
    "spectral_norm": lambda m: parametrizations.spectral_norm(attention(m).k_lin),
    "orthogonal": lambda m: parametrizations.orthogonal(attention(m).q_lin),
    "old spectral_norm": lambda m: spectral_norm(attention(m).q_lin),
    "scalars": exponential,
    "prune of scalars": lambda m: prune.custom_from_mask(attention(m).inhibitor, "delta", torch.tensor([0.0, 1.0])),
    "embeddings": lambda m: prune.l1_unstructured(m.get_input_embeddings(), "weight", 0.5),
    "another layer": lambda m: attention(m).add_module("extra", nn.Linear(2, 2)),
    "a layer less": lambda m: m.base_model.transformer.layer.__delitem__(1),
    "no bias": lambda m: setattr(attention(m).q_lin, "bias", None),
}


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
@pytest.mark.parametrize("name", ["Model", "ForSequenceClassification"])
def test_wrapped_weights(name: str, wrap: Callable[[Any], object], tmp_path: Path) -> None:
    model = tiny_student(name)
    wrap(model)
    with pytest.raises(ValueError, match=NAMES):
        model.save_pretrained(tmp_path / "out")
    with pytest.raises(ValueError, match=NAMES):
        model.save_pretrained(tmp_path / "out", state_dict=model.state_dict())
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
def test_the_older_weight_norm(tmp_path: Path) -> None:
    model = tiny_student()
    weight_norm(attention(model).q_lin)
    with pytest.raises(ValueError, match=NAMES):
        model.save_pretrained(tmp_path)


def test_made_plain_again(tmp_path: Path) -> None:
    model = tiny_student()
    parametrizations.weight_norm(attention(model).q_lin)
    parametrize.remove_parametrizations(attention(model).q_lin, "weight")
    prune.l1_unstructured(attention(model).k_lin, "weight", 0.5)
    prune.remove(attention(model).k_lin, "weight")
    model.save_pretrained(tmp_path)
    InhibiDistilBertModel.from_pretrained(tmp_path)


def test_a_wrapped_head(tmp_path: Path) -> None:
    model = tiny_student("ForSequenceClassification")
    parametrizations.weight_norm(model.classifier)
    with pytest.raises(ValueError, match=NAMES):
        model.save_pretrained(tmp_path)


class Somebodys(InhibiDistilBertPreTrainedModel):
    """A head of somebody else's, whose making takes more than a configuration."""

    def __init__(self, config: Any, size: int) -> None:
        super().__init__(config)
        self.encoder = InhibiDistilBertModel(config)
        self.head = nn.Linear(config.dim, size)
        self.post_init()


def test_a_class_of_somebody_else(tmp_path: Path) -> None:
    model = Somebodys(tiny_config(), size=3)
    model.save_pretrained(tmp_path / "plain")
    Somebodys.from_pretrained(tmp_path / "plain", size=3)
    prune.l1_unstructured(model.encoder.transformer.layer[0].attention.q_lin, "weight", 0.5)
    with pytest.raises(ValueError, match=NAMES):
        model.save_pretrained(tmp_path / "out")


def test_adapters_that_transformers_saves_alone_are_no_weights_of_the_model(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    peft.get_peft_model(tiny_student(), peft.LoraConfig(target_modules=["q_lin"], r=2)).save_pretrained(tmp_path)
    model = tiny_student()
    model.load_adapter(str(tmp_path))
    check_savable(model, {})


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("inhibitor_length_reference", 128, "attention.inhibitor.length_reference is 64"),
        ("layer_norm_eps", 1e-2, r"LayerNorm.eps is 1e-12"),
        ("n_heads", 4, r"inhibitor.gamma is \(2,\)"),
        ("activation", "relu", "activation is GELUActivation"),
        ("hidden_dim", 8, r"ffn.lin1.weight is \(32, 16\)"),
        ("vocab_size", 50, r"word_embeddings.weight is \(100, 16\)"),
    ],
)
@pytest.mark.parametrize("name", ["Model", "ForMaskedLM"])
def test_a_configuration_changed_afterwards(name: str, field: str, value: Any, named: str, tmp_path: Path) -> None:
    model = tiny_student(name)
    setattr(model.config, field, value)
    with pytest.raises(
        ValueError, match=rf"^[^\n]*{named}[^\n]*configuration[^\n]*make them agree; nothing was written$"
    ):
        model.save_pretrained(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_module_changed_afterwards(tmp_path: Path) -> None:
    model = tiny_student()
    attention(model).inhibitor.length_reference = 128.0
    with pytest.raises(
        ValueError, match=r"length_reference is 128.0 in the model, inhibitor_length_reference is 64 in"
    ):
        model.save_pretrained(tmp_path)
    model = tiny_student()
    model.transformer.layer[1].output_layer_norm.eps = 1e-3
    with pytest.raises(ValueError, match=r"layer.1.output_layer_norm.eps is 0.001 in the model, layer_norm_eps is"):
        model.save_pretrained(tmp_path)
    for layer in model.transformer.layer:
        layer.attention.inhibitor.length_reference = 128.0
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-3
    model.config.inhibitor_length_reference, model.config.layer_norm_eps = 128, 1e-3
    model.save_pretrained(tmp_path)


@pytest.mark.parametrize("name", CLASSES)
def test_saving_draws_no_random_numbers_and_changes_nothing(name: str, tmp_path: Path) -> None:
    model = tiny_student(name)
    before, weights = torch.get_rng_state(), {k: v.clone() for k, v in model.state_dict().items()}
    model.save_pretrained(tmp_path)
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())
    student_class(name).from_pretrained(tmp_path)


def test_a_process_that_does_not_write_may_have_no_weights(tmp_path: Path) -> None:
    model = tiny_student()
    model.save_pretrained(tmp_path, is_main_process=False, state_dict={"a": torch.ones(1)})
