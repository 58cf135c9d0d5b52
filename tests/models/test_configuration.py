"""The configuration refuses what cannot be meant, and a saved one is the same when it comes back."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub.errors import StrictDataclassFieldValidationError
from transformers import AutoConfig

from inhibitor_transformers import InhibiDistilBertConfig, InhibiDistilBertModel
from tests.models.tiny import tiny_config

FIELDS: dict[str, Any] = {
    "inhibitor_gamma": 0.7,
    "inhibitor_eta": 2,
    "inhibitor_delta": -0.1,
    "inhibitor_length_exponent": 0.75,
    "inhibitor_length_reference": 100,
    "inhibitor_signed": False,
    "inhibitor_center": "none",
    "inhibitor_value_center": "mean",
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-5,
}


def test_every_field_survives_json(tmp_path: Path) -> None:
    config = tiny_config(**FIELDS)
    config.save_pretrained(tmp_path)
    for again in (InhibiDistilBertConfig.from_pretrained(tmp_path), AutoConfig.from_pretrained(tmp_path)):
        assert type(again) is InhibiDistilBertConfig
        assert {name: getattr(again, name) for name in FIELDS} == FIELDS
        assert again.to_dict() | {"_name_or_path": ""} == config.to_dict()


def test_what_changes_the_function_is_written_even_at_its_default(tmp_path: Path) -> None:
    tiny_config().save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["model_type"] == "inhibidistilbert"
    assert FIELDS.keys() <= saved.keys()


def test_the_fields_reach_the_scalars() -> None:
    scalars = InhibiDistilBertModel(tiny_config(**FIELDS)).transformer.layer[1].attention.inhibitor
    found = {name: getattr(scalars, name).tolist() for name in ("gamma", "eta", "delta", "length_exponent")}
    expected = {"gamma": [0.7] * 2, "eta": [2.0] * 2, "delta": [-0.1] * 2, "length_exponent": [0.75] * 2}
    assert found == {name: pytest.approx(values) for name, values in expected.items()}
    assert scalars.length_reference == 100


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("inhibitor_length_reference", 0, "inhibitor_length_reference must be positive, got 0"),
        ("inhibitor_length_reference", -64, "inhibitor_length_reference must be positive, got -64"),
        ("inhibitor_length_reference", math.nan, "inhibitor_length_reference must be positive, got nan"),
        ("inhibitor_length_reference", math.inf, "inhibitor_length_reference must be positive, got inf"),
        ("inhibitor_gamma", math.nan, "inhibitor_gamma must be a finite number, got nan"),
        ("inhibitor_eta", math.inf, "inhibitor_eta must be a finite number, got inf"),
        ("inhibitor_delta", -math.inf, "inhibitor_delta must be a finite number, got -inf"),
        ("inhibitor_length_exponent", math.nan, "inhibitor_length_exponent must be a finite number, got nan"),
        ("type_vocab_size", -1, "type_vocab_size must be 0 or more, got -1"),
        ("layer_norm_eps", -1e-5, "layer_norm_eps must be 0 or more, got -1e-05"),
        ("inhibitor_sined", False, "InhibiDistilBertConfig has no field inhibitor_sined"),
        ("output_attentions", True, "output_attentions=True belongs in the call"),
    ],
)
def test_a_value_out_of_range_is_refused(field: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        tiny_config(**{field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("inhibitor_signed", "yes"),
        ("inhibitor_gamma", "1"),
        ("inhibitor_center", "max"),
        ("inhibitor_value_center", "median"),
        ("type_vocab_size", 2.0),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(field: str, value: Any) -> None:
    with pytest.raises(StrictDataclassFieldValidationError, match=f"'{field}'"):
        tiny_config(**{field: value})


def test_output_attentions_cannot_be_set_later_either(tmp_path: Path) -> None:
    model = InhibiDistilBertModel(tiny_config())
    with pytest.raises(ValueError, match=r"belongs in the call"):
        model.config.output_attentions = True
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"belongs in the call"):
        InhibiDistilBertModel.from_pretrained(tmp_path, output_attentions=True)


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match="must divide"):
        InhibiDistilBertModel(tiny_config(n_heads=3))
