"""What a client needs of a plan, and its two files."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from inhibitor_transformers.deploy.encrypted.client_part import ClientPart
from tests.deploy.encrypted.cases import KINDS, random_classifier
from tests.deploy.encrypted.engine.tiny import LABELS, examples, tiny_plan


class Halves:
    """An encoder's state."""

    def state(self):
        return {"kind": "halves"}, {"scale": np.array([0.5, 0.25])}


def write(part: ClientPart, folder: Path) -> None:
    for name, content in part.files().items():
        (folder / name).write_bytes(content)


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_the_plans(kind):
    """What is decrypted begins at 0."""
    plan = random_classifier(kind, tokens=2).plan()
    inputs = np.random.default_rng(0).integers(plan.input.low, plan.input.high, (20, *plan.input.shape), endpoint=True)
    outputs, part = plan.evaluate(inputs), ClientPart.of(plan)
    assert (outputs - plan.output.low).min() >= 0
    logits = np.stack([part.decode(output - plan.output.low) for output in outputs])
    assert np.array_equal(logits, plan.finish(outputs))


def test_it_is_read_as_it_was_written(tmp_path):
    part = ClientPart.of(tiny_plan(), LABELS, Halves())
    write(part, tmp_path)
    read = ClientPart.load(tmp_path)
    for field in fields(ClientPart):
        assert repr(getattr(read, field.name)) == repr(getattr(part, field.name)), field.name
    assert read.plan == tiny_plan().digest


def test_levels_are_taken_as_they_are_without_an_encoder():
    assert np.array_equal(ClientPart.of(tiny_plan()).encode(examples(3)), examples(3))


@pytest.mark.parametrize("output", [[[0, 0, 0]], [[9, 0], [0, 0]], [[-1, 0], [0, 0]]])
def test_numbers_that_no_input_leads_to(output):
    with pytest.raises(ValueError, match=r"the answer has shape|numbers that the plan cannot compute"):
        ClientPart.of(tiny_plan()).decode(np.array(output))


def test_labels_are_as_many_as_classes():
    with pytest.raises(ValueError, match="3 labels for 2 classes"):
        ClientPart.of(tiny_plan(), ("a", "b", "c"))


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("client.npz", lambda b: b[:-3]),
        ("client.npz", lambda b: b""),
        ("client.json", lambda b: b[:-3]),
        ("client.json", lambda b: b.replace(b'"format": 1', b'"format": 2')),
        ("client.json", lambda b: b.replace(b'"labels"', b'"names"')),
        ("client.json", lambda b: json.dumps(json.loads(b) | {"arrays": "0" * 64}).encode()),
        ("client.json", lambda b: b"[]"),
        ("client.npz", None),
        ("client.json", None),
    ],
)
def test_files_that_are_damaged(tmp_path, name, damage):
    write(ClientPart.of(tiny_plan(), LABELS), tmp_path)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).unlink()
    if damage:
        assert damage(content) != content
        (tmp_path / name).write_bytes(damage(content))
    with pytest.raises(ValueError, match=rf"{name}|holds no client that can be read"):
        ClientPart.load(tmp_path)
