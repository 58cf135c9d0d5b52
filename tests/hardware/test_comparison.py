"""Both heads on the numbers of a tiny student and its teacher: operands, rows, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from inhibitor_transformers import InhibiDistilBertModel
from inhibitor_transformers.deploy.quantize.texts import as_batches
from tests.distill.tiny import bert, bert_tokenizer, sentences

pytest.importorskip("amaranth", reason="circuits need amaranth")
from inhibitor_transformers.hardware import comparison, heads, require_tools
from inhibitor_transformers.hardware.circuits.inhibitor_model import (
    Configuration,
    InhibitorShape,
    distances,
    inhibited_sums,
)
from inhibitor_transformers.hardware.comparison import Comparison, Setting
from inhibitor_transformers.hardware.operands import attention_calls, inhibitor_operands, pair_heads, softmax_operands
from inhibitor_transformers.hardware.rows import ELEMENT_MEASURES, MEASURES, comparison_table
from tests.hardware.gates.designs import needs_library, needs_yosys

TEXTS = [" ".join(sentences(16))[:100]] * 2 + sentences(40)


@pytest.fixture(scope="module")
def models():
    student = InhibiDistilBertModel.from_teacher(bert(), inhibitor_center="none").eval()
    for layer in student.transformer.layer:  # so that the scores leave something of the values
        layer.attention.inhibitor.gamma.data.fill_(0.1)
        layer.attention.inhibitor.delta.data.fill_(0.0)
    return student, bert().eval()


@pytest.fixture
def small(monkeypatch) -> None:
    """Eight lanes: seconds instead of minutes."""
    monkeypatch.setattr(heads, "LANES", 8)


def batches():
    return as_batches(TEXTS, bert_tokenizer(), max_length=16)


def test_the_model_of_the_circuit_attends_as_the_layer_does(models):
    student, _ = models
    text = {name: t[:1] for name, t in batches()[0].items()}
    calls = [call for (call,) in attention_calls(student, [text])]
    for layer, found, (q, k, v, _) in zip(
        student.transformer.layer, inhibitor_operands(student, batches(), text, 8), calls, strict=True
    ):
        exact, _ = layer.attention.inhibitor(q, k, v, center="none")
        ours = torch.stack([torch.from_numpy(outputs(head)) for head in found]).float()
        # Each head's outputs up to its step and f(n).
        for h, target in zip(ours, exact[0], strict=True):
            factor = (h * target).sum() / h.square().sum().clamp_min(1e-9)
            assert (h * factor - target).norm() < 0.1 * target.norm()


def test_operands_of_an_unsigned_student(models):
    student, _ = models
    text = {name: t[:1] for name, t in batches()[0].items()}
    unsigned = InhibiDistilBertModel.from_teacher(bert(), inhibitor_center="none", inhibitor_signed=False).eval()
    unsigned.load_state_dict(student.state_dict())
    ((q, k, v, _),) = attention_calls(unsigned, [text])[0]
    (heads_found, _) = inhibitor_operands(unsigned, batches(), text, 8)
    exact, _ = unsigned.transformer.layer[0].attention.inhibitor(q, k, v, center="none", signed=False)
    for head, target in zip(heads_found, exact[0], strict=True):
        h = torch.from_numpy(outputs(head)).float()
        factor = (h * target).sum() / h.square().sum().clamp_min(1e-9)
        assert (h * factor - target).norm() < 0.1 * target.norm()


def test_heads_of_other_sizes_are_not_compared(models):
    student, _ = models
    teacher = bert(hidden_size=64, num_attention_heads=2)
    with pytest.raises(ValueError, match="the student's heads have 8 features, the teacher's 32"):
        Comparison(student, teacher, bert_tokenizer(), TEXTS)


def outputs(head) -> np.ndarray:
    shape = InhibitorShape(head.bits, head.q.shape[1], head.v.shape[1], centered=head.centered)
    configuration = Configuration.of(shape, head.sign, head.delta, head.shift)
    distance = distances(head.q, head.k)
    return inhibited_sums(configuration.scores(shape, distance, np.ones_like(distance, dtype=bool)), head.v)


def test_softmax_operands_are_signed_and_symmetric(models):
    _, teacher = models
    text = {name: t[:1] for name, t in batches()[0].items()}
    (first, *_), *_ = softmax_operands(teacher, batches(), text, 8)
    for integers in (first.q, first.k, first.v):
        assert 64 < np.abs(integers).max() <= 127
    paired = pair_heads(first, first)
    assert paired.q.shape[1] == 2 * first.q.shape[1]
    assert paired.shift == first.shift + 1


@needs_library
@needs_yosys
def test_both_heads_of_a_model(models, small):
    student, teacher = models
    made = Comparison(student, teacher, bert_tokenizer(), TEXTS, rows=1, keys=16)
    rows = list(made.compare([Setting(bits=4, length=16)]))
    assert [row.measure for row in rows] == list(MEASURES)
    assert {(row.bits, row.n, row.d, row.layer) for row in rows} == {(4, 16, 8, 0)}
    by_name = {row.measure: row for row in rows}
    assert all(row.ratio == row.softmax / row.inhibitor for row in rows)
    for side in ("softmax", "inhibitor"):
        assert 0 < getattr(by_name["logic"], side) < getattr(by_name["registers"], side) < 1e-9
    table = comparison_table(rows)
    assert len(table.rows) == len(rows)
    assert all(len(line) == len(table.header) for line in table.rows)


@needs_library
@needs_yosys
@pytest.mark.parametrize("part", ["scores", "outputs"])
def test_the_elements_of_both_heads(models, small, part):
    """Fewer gates in front of fewer registers than the head that they are a part of."""
    student, teacher = models
    made = Comparison(student, teacher, bert_tokenizer(), TEXTS, rows=1, keys=16)
    rows = list(made.compare([Setting(bits=4, length=16, part=part)]))
    assert [row.measure for row in rows] == list(ELEMENT_MEASURES)
    whole = {row.measure: row for row in made.compare([Setting(bits=4, length=16)])}
    for row in rows:
        for side in ("softmax", "inhibitor"):
            assert 0 < getattr(row, side) <= getattr(whole[row.measure], side)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        (Setting(bits=8, length=16, layer=2), "there is no layer 2, the model has 2"),
    ],
)
def test_what_is_not_there(models, setting, said, monkeypatch):
    monkeypatch.setattr(comparison, "softmax_operands", lambda *_: [[None]] * 2)
    student, teacher = models
    with pytest.raises(ValueError, match=said):
        Comparison(student, teacher, bert_tokenizer(), TEXTS).costs(setting)


def test_a_head_that_is_not_there(models):
    student, teacher = models
    with pytest.raises(ValueError, match="there is no head 4, layers have 4"):
        Comparison(student, teacher, bert_tokenizer(), TEXTS, head=4).costs(Setting(length=16))


def test_without_the_tools(monkeypatch):
    monkeypatch.setattr("inhibitor_transformers.hardware.find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"circuits need amaranth: pip install 'inhibitor-transformers\[hardware\]'"):
        require_tools("osu018")


def test_models_on_the_wrong_side(models):
    student, teacher = models
    for pair in ((teacher, student), (student, student), (teacher, teacher)):
        with pytest.raises(ValueError, match=r"cannot stand on this side: .* is not"):
            Comparison(*pair, bert_tokenizer(), TEXTS)


def test_longer_texts_than_the_models_read(models):
    student, teacher = models
    with pytest.raises(ValueError, match="the text: 5000 tokens are more than this"):
        Comparison(student, teacher, bert_tokenizer(), TEXTS).costs(Setting(length=5000))


def test_texts_that_are_too_short(models):
    student, teacher = models
    with pytest.raises(ValueError, match="no text has 150 tokens: give longer ones"):
        Comparison(student, teacher, bert_tokenizer(), ["a"]).costs(Setting(length=150))
