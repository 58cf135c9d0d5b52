"""What fewer bits cost, and alignment that sees the rounding: the scripts measure and change what they say."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModel

from inhibitor_transformers import InhibiDistilBertModel
from inhibitor_transformers.attention import InhibitorScalars, inhibitor_attention
from inhibitor_transformers.deploy.quantize.texts import as_batches
from tests.distill.tiny import bert, bert_tokenizer, saved, sentences
from tests.scripts import Script


def test_rounded_inputs_are_whole_steps_and_keep_their_gradient(script: Script) -> None:
    round_inputs = script("rounding_aware").round_inputs
    q, k, v = (torch.randn(2, 3, 7, 4, requires_grad=True) for _ in range(3))
    rounded = round_inputs(q, k, v, 4)
    for x, ours in zip((q, k, v), rounded, strict=True):
        for head in range(3):
            levels = ours[:, head].detach().flatten(0, 1)
            steps = torch.cat([levels.diff(dim=0).abs().flatten()])
            step = steps[steps > 1e-6].min()
            assert ((steps / step).round() * step - steps).abs().max() < 1e-4
        (grad,) = torch.autograd.grad(ours.sum(), x)
        assert set(grad.unique().tolist()) == {0.0, 1.0}  # clipped, or passed straight through
    assert (rounded[0] - q).abs().mean() > (round_inputs(q, k, v, 8)[0] - q).abs().mean()


def test_attention_is_patched(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = script("rounding_aware")
    monkeypatch.setattr(InhibitorScalars, "forward", InhibitorScalars.forward)  # put back afterwards
    scalars = InhibitorScalars(3, gamma=0.1)
    tensors = [torch.randn(2, 3, 7, 4) for _ in range(3)]
    experiment.patch_attention(4)
    output, _ = scalars(*tensors)
    expected = inhibitor_attention(*experiment.round_inputs(*tensors, 4), **scalars.as_arguments())
    torch.testing.assert_close(output, expected)


def test_a_softmax_model_in_integers(script: Script) -> None:
    """Nearer to its floats with more bits, padding left out."""
    experiment, texts = script("softmax_integers"), sentences(12)
    batches = as_batches(texts, bert_tokenizer(), max_length=24)
    exact, errors = bert().eval(), []
    with torch.no_grad():
        valid = batches[0]["attention_mask"].bool()
        target = exact(**batches[0]).last_hidden_state[valid]
        for bits in (4, 8):
            model = bert().eval()
            model.load_state_dict(exact.state_dict())
            experiment.quantize_attention(model, batches, bits)
            errors.append(float((model(**batches[0]).last_hidden_state[valid] - target).norm() / target.norm()))
    assert 0 < errors[1] < errors[0] < 0.2
    assert errors[1] < 0.01


def test_the_table_of_an_encoder(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = script("integers")
    student = saved(InhibiDistilBertModel.from_teacher(bert()), tmp_path / "student")
    monkeypatch.setattr(experiment, "LENGTHS", (8,))
    monkeypatch.setattr(experiment, "load_texts", lambda *_, **__: sentences(40))
    pairs = {"sentence1": sentences(6), "sentence2": sentences(12)[6:], "label": [0.0, 1, 2, 3, 4, 5]}
    task = type("Data", (), {"evaluation": {"validation": type("Rows", (), {"__getitem__": lambda *_: pairs})()}})()
    monkeypatch.setattr(experiment, "load_task", lambda *_: task)
    monkeypatch.setattr(sys, "argv", ["integers.py", student, "--bits", "8", "4", "--threads", "1"])
    experiment.main()
    rows = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert [row[0].strip() for row in rows] == ["bits", "---", "float", "8", "8", "4", "4"]
    assert AutoModel.from_pretrained(student).config.n_layers == len(rows[3][2].split())
    assert float(rows[2][4]) == pytest.approx(1)
    assert float(rows[5][4]) < float(rows[3][4]) < 1
