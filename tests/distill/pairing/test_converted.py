"""A converted student beside its teacher: what is compared, what counts, and what depends on what."""

from __future__ import annotations

import pytest
import torch

from inhibitor_transformers.distill.pairing import ConvertedPairing
from inhibitor_transformers.distill.teacher.teacher import Teacher
from inhibitor_transformers.models import convert
from inhibitor_transformers.tasks.modalities.example import example_batch
from tests.distill.any_model import make, preprocessor_for


def pairing_of(kind: str, **options) -> ConvertedPairing:
    model = make(kind)
    example = example_batch(model, preprocessor_for(kind))
    return ConvertedPairing(convert(model, example, **options), Teacher(model), example, has_cls=kind == "albert")


def padded() -> dict[str, torch.Tensor]:
    ids = torch.arange(5, 25).reshape(2, 10)
    mask = torch.ones(2, 10, dtype=torch.long)
    mask[1, 6:] = 0
    return {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(mask == 0, -100)}


@pytest.mark.parametrize("kind", ["gpt2", "albert", "bart"])
def test_padding_neither_counts_nor_reaches_what_does(kind):
    pairing, batch = pairing_of(kind), padded()
    other = batch | {"input_ids": batch["input_ids"].masked_fill(batch["attention_mask"] == 0, 7)}
    with torch.no_grad():
        for a, b in zip(pairing.attention_outputs(batch), pairing.attention_outputs(other), strict=True):
            assert int(a.valid.sum()) == 16
            for ours, theirs in ((a.ours, b.ours), (a.theirs, b.theirs)):
                torch.testing.assert_close(ours[a.valid], theirs[a.valid], rtol=1e-5, atol=1e-5)


def test_with_the_teacher_in_the_students_place_nothing_differs():
    pairing, batch = pairing_of("gpt2"), padded()
    with torch.no_grad():
        outputs = pairing.with_student(pairing.teacher.model).outputs(batch)
    assert all(torch.equal(x.ours, x.theirs) for x in (*outputs.hidden, outputs.logits))
    states = pairing.teacher_hidden_states(batch)
    assert [(x.label, x.states.shape) for x in states] == [(x.label, x.theirs.shape) for x in outputs.hidden]


def test_an_image_counts_once_whatever_its_patches():
    pairing = pairing_of("vit")
    batch = {"pixel_values": pairing.example["pixel_values"], "labels": torch.zeros(2, dtype=torch.long)}
    with torch.no_grad():
        hidden = pairing.outputs(batch).hidden[0]
        logits = pairing.outputs(batch).logits
    assert hidden.valid.shape == (2, 17)
    assert float(pairing.count(hidden.valid, batch, 8.0)) == 8 * 17
    assert logits.ours.shape == (2, 1, 3)
    assert float(pairing.count(logits.valid, batch, 8.0)) == 8


def test_what_the_teacher_calls_while_it_writes_is_not_compared():
    pairing = pairing_of("whisper")
    batch = {"input_features": torch.randn(2, 16, 100), "labels": torch.zeros(2, dtype=torch.long)}
    calls = pairing.teacher_calls(batch)
    assert [call.site.name for call in calls] == [site.name for site in pairing.record.sites]
    (text,) = {call.query.shape[2] for call in calls if "decoder" in call.site.name}
    with torch.no_grad():
        outputs = pairing.attention_outputs(batch)
    assert [x.ours.shape[1] for x in outputs] == [50, 50, *[text] * 4]


def test_every_application_of_a_shared_layer_is_compared():
    pairing = pairing_of("albert")
    labels = [x.label for x in pairing.teacher_attention_outputs(padded())]
    assert len(set(labels)) == 2
    assert labels[1] == f"{labels[0]}#1"


@pytest.mark.parametrize(
    ("kind", "first", "encoder"),
    [
        ("gpt2", False, False),
        ("bart", False, False),
        ("albert", True, True),
        ("vit", True, True),
        ("swin", False, True),
    ],
)
def test_what_a_model_is(kind, first, encoder):
    pairing = pairing_of(kind)
    assert (pairing.reads_first_token, pairing.is_encoder) == (first, encoder)


def names_of(pairing: ConvertedPairing, parameters) -> set[str]:
    chosen = {id(p) for p in parameters}
    return {name for name, p in pairing.student.named_parameters() if id(p) in chosen}


def test_parameters_of_a_rotary_decoder():
    pairing = pairing_of("llama", query_scale=True)
    attention = names_of(pairing, pairing.attention_parameters())
    assert all(".self_attn." in name and "o_proj" not in name for name in attention)
    assert sum("query_scale" in name for name in attention) == 2
    assert names_of(pairing, pairing.embedding_parameters()) == {"model.embed_tokens.weight"}


def test_parameters_of_swin_s_later_stages_are_no_embeddings():
    pairing = pairing_of("swin")
    found = names_of(pairing, pairing.embedding_parameters())
    assert found
    assert all(name.startswith("swin.embeddings.") for name in found)
