"""Which modules are the blocks of a model, and what is recorded of them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from inhibitor_transformers.distill.pairing.blocks import find_blocks, first_tensor, record_blocks, record_inputs
from inhibitor_transformers.models import convert
from inhibitor_transformers.tasks.modalities.example import example_batch
from tests.distill.any_model import make, preprocessor_for


@pytest.mark.parametrize(
    ("kind", "blocks"),
    [
        ("llama", ["model.layers.0", "model.layers.1"]),
        ("gpt2", ["transformer.h.0", "transformer.h.1"]),
        ("albert", ["albert.encoder.albert_layer_groups.0.albert_layers.0"]),
        ("t5", ["encoder.block.0", "encoder.block.1", "decoder.block.0", "decoder.block.1"]),
        ("bart", [f"model.{side}.layers.{i}" for side in ("encoder", "decoder") for i in (0, 1)]),
        ("vit", ["vit.layers.0", "vit.layers.1"]),
        ("swin", [f"swin.encoder.layers.{stage}.blocks.{i}" for stage in (0, 1) for i in (0, 1)]),
    ],
)
def test_blocks_of_architectures(kind, blocks):
    model = make(kind)
    student = convert(model, example_batch(model, preprocessor_for(kind)))
    assert find_blocks(model, [site.name for site in student.config.record.sites]) == blocks


def test_attention_in_no_list_is_a_block_itself():
    model = nn.Sequential()
    model.attention = nn.Linear(2, 2)
    assert find_blocks(model, ["attention"]) == ["attention"]


def test_states_of_repeated_calls_are_numbered():
    block = nn.Linear(4, 4)
    model = nn.Module()
    model.blocks = nn.ModuleList([block])
    x = torch.randn(1, 3, 4)
    with record_inputs(model, ["blocks.0"]) as given, record_blocks(model, ["blocks.0"]) as found:
        y = block(x)
        z = block(y)
    assert [state.application for state in found] == [0, 1]
    assert torch.equal(given[1].states, y)
    assert torch.equal(found[1].states, z)
    assert not block._forward_hooks
    assert not block._forward_pre_hooks


def test_hidden_states_are_sequences():
    assert first_tensor((None, torch.zeros(2, 3, 4))).shape == (2, 3, 4)
    assert first_tensor([torch.zeros(2, 3, 5, 4)]).shape == (2, 15, 4), "a map"
    assert first_tensor(torch.zeros(7, 4)).shape == (1, 7, 4), "sequences end to end"
