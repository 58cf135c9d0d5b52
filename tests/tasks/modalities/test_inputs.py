"""What a forward pass is given of a batch, and what a decoder beside an encoder reads."""

from __future__ import annotations

import pytest
import torch

from inhibitor_transformers.tasks.modalities.example import example_batch
from inhibitor_transformers.tasks.modalities.inputs import forward_inputs
from tests.distill.any_model import make, preprocessor_for


def batch() -> dict[str, torch.Tensor]:
    ids = torch.arange(5, 25).reshape(2, 10)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids, "window_indices": torch.arange(2)}


def test_labels_and_what_the_model_does_not_name_are_left_out():
    inputs = forward_inputs(make("gpt2"), batch())
    assert sorted(inputs) == ["attention_mask", "input_ids", "use_cache"]
    assert inputs["use_cache"] is False


def test_a_decoder_repeats_the_text_behind_its_start_token():
    inputs = forward_inputs(make("bart"), batch())
    assert inputs["decoder_input_ids"][0].tolist() == [3, *range(5, 14)]
    assert torch.equal(inputs["decoder_attention_mask"], inputs["attention_mask"])


def test_a_decoder_reads_what_it_writes_about_a_recording():
    model = make("whisper")
    inputs = forward_inputs(model, {"input_features": torch.randn(2, 16, 100)})
    ids, mask = inputs["decoder_input_ids"], inputs["decoder_attention_mask"]
    assert ids[:, 0].tolist() == [2, 2]
    assert ids.shape == mask.shape
    with torch.no_grad():
        predicted = model(**inputs).logits.argmax(-1)
    followed = (predicted[:, :-1] == ids[:, 1:]) | (mask[:, 1:] == 0)
    assert followed.all(), "each token is the one that the model ranks first after those before it"
    assert not model.model.decoder._forward_pre_hooks


def test_a_recording_is_written_down_once_whatever_its_batches(monkeypatch: pytest.MonkeyPatch):
    model, recordings, written = make("whisper"), torch.randn(3, 16, 100), {}
    first = forward_inputs(model, {"input_features": recordings}, written)
    assert len({tuple(text.tolist()) for text in written.values()}) == 3
    monkeypatch.setattr(model, "generate", None)
    again = forward_inputs(model, {"input_features": recordings[[2, 0]]}, written)
    for name in ("decoder_input_ids", "decoder_attention_mask"):
        longest = again[name].shape[1]
        assert torch.equal(again[name], first[name][[2, 0], :longest])
        assert not (first["decoder_attention_mask"][[2, 0], longest:]).any()


def test_examples_are_made_by_a_model_s_own_preprocessor():
    for kind, names in (
        ("gpt2", {"input_ids", "attention_mask"}),
        ("t5", {"input_ids", "attention_mask", "decoder_input_ids", "decoder_attention_mask"}),
        ("vit", {"pixel_values"}),
        ("ast", {"input_values"}),
    ):
        model = make(kind)
        example = example_batch(model, preprocessor_for(kind))
        assert example.keys() == names, kind
        with torch.no_grad():
            model(**example)
