"""These models run inhibitor attention or nothing: no way of asking for another leads to softmax."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from transformers import AutoModel, BertModel
from transformers.models.distilbert import modeling_distilbert

from tests.models.tiny import CLASSES, auto_class, inputs_for, student_class, teacher_config, texts, tiny_config
from tests.models.tiny import tiny_student as student

OTHERS = ["sdpa", "eager", "flash_attention_2", "flex_attention"]
EXPLAINED = "this model computes inhibitor attention; attn_implementation='{}' would run softmax"


def refused(implementation: str) -> Any:
    return pytest.raises(ValueError, match=EXPLAINED.format(implementation))


@pytest.fixture(autouse=True)
def _softmax_never_runs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    calls: list[str] = []

    def trap(name: str) -> Any:
        def softmax(*_args: Any, **_kwargs: Any) -> NoReturn:
            calls.append(name)
            raise AssertionError(f"{name} was called")

        return softmax

    monkeypatch.setattr(torch.nn.functional, "softmax", trap("softmax"))
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", trap("scaled_dot_product_attention"))
    monkeypatch.setattr(modeling_distilbert, "eager_attention_forward", trap("eager_attention_forward"))
    yield
    assert calls == []


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    student("ForMaskedLM").save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", CLASSES)
def test_inhibitor_attention_is_what_runs(name: str) -> None:
    model = student(name)
    assert model.config._attn_implementation == "inhibitor"
    model(**inputs_for(name))


@pytest.mark.parametrize("implementation", OTHERS)
@pytest.mark.parametrize("name", CLASSES)
def test_at_loading(name: str, implementation: str, saved: Path) -> None:
    with refused(implementation):
        auto_class(name).from_pretrained(saved, attn_implementation=implementation)


@pytest.mark.parametrize("implementation", OTHERS)
def test_in_a_config(implementation: str) -> None:
    with refused(implementation):
        AutoModel.from_config(tiny_config(attn_implementation=implementation))
    with refused(implementation):
        AutoModel.from_config(tiny_config(), attn_implementation=implementation)
    with refused(implementation):
        student_class("ForMaskedLM")(tiny_config(attn_implementation={"": implementation}))


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
def test_in_a_saved_config(key: str, saved: Path) -> None:
    path = saved / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: "sdpa"}))
    with refused("sdpa"):
        AutoModel.from_pretrained(saved)


@pytest.mark.parametrize("implementation", OTHERS)
@pytest.mark.parametrize("name", CLASSES)
def test_of_a_living_model(name: str, implementation: str) -> None:
    model, inputs = student(name), inputs_for(name)
    for module in (model, model.base_model):
        with refused(implementation):
            module.set_attn_implementation(implementation)
        with refused(implementation):
            module.set_attn_implementation({"": implementation})
    model(**inputs)  # and it still runs as before


@pytest.mark.parametrize("implementation", ["sdpa", "eager", "flash_attention_2", "paged|eager", "no such"])
@pytest.mark.parametrize("name", CLASSES)
def test_assigned_behind_the_models_back(name: str, implementation: str) -> None:
    model, inputs = student(name), inputs_for(name)
    model.config._attn_implementation = implementation
    with pytest.raises(ValueError, match="this model computes inhibitor attention"):
        model(**inputs)


@pytest.mark.parametrize("implementation", [*OTHERS, "kernels-community/flash-attn", None])
def test_a_layer_on_its_own(implementation: str | None) -> None:
    model = student()
    model.config._attn_implementation = implementation
    with pytest.raises(ValueError, match="this model computes inhibitor attention"):
        model.transformer.layer[0].attention(torch.ones(1, 3, 16))


def test_none_is_not_a_way_to_softmax_either() -> None:
    model = student()
    model.config._attn_implementation = None
    with pytest.raises(ValueError, match="attn_implementation=None would run softmax"):
        model(**texts())


@pytest.mark.parametrize("implementation", [None, "inhibitor"])
def test_asking_for_inhibitor_attention_is_right(implementation: str | None, saved: Path) -> None:
    model = AutoModel.from_pretrained(saved, attn_implementation=implementation)
    model.set_attn_implementation("inhibitor")
    model(**texts())


def test_inhibitor_attention_in_a_softmax_model_is_refused() -> None:
    model = BertModel(teacher_config("bert", attn_implementation="inhibitor"))
    with pytest.raises(ValueError, match=r"BertSelfAttention has no inhibitor scalars.*from_teacher"):
        model(**texts())
