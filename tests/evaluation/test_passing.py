"""What passes from keys to queries: the fraction against loops over numbers, and both models' own scores."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor

from inhibitor_transformers import convert
from inhibitor_transformers.attention import inhibition_scores, inhibitor_attention
from inhibitor_transformers.evaluation.passing import passing_fraction, record_pairs
from tests.models.conversion import zoo


def by_hand(z: Tensor, values: Tensor, signed: bool) -> Tensor:
    """Loops over single numbers; z (B, H, Nq, Nk), values (B, Hkv, Nk, Dv)."""
    found = torch.zeros(z.shape)
    groups = z.shape[1] // values.shape[1]
    for b, h, i, j in torch.cartesian_prod(*map(torch.arange, z.shape)).tolist():
        v = values[b, h // groups, j].tolist()
        left = sum(max((abs(x) if signed else x) - float(z[b, h, i, j]), 0.0) for x in v)
        size = sum(map(abs, v))
        found[b, h, i, j] = left / size if size else 0.0
    return found


@pytest.mark.parametrize("signed", [True, False])
def test_the_fraction_is_that_of_single_numbers(signed: bool) -> None:
    torch.manual_seed(0)
    z, values = torch.rand(2, 4, 3, 5), torch.randn(2, 2, 5, 6)
    z[0, 1, 2, 3] = math.inf
    z[1, 0, 0, 0] = 0.0
    values[1, 1, 2] = 0.0
    torch.testing.assert_close(passing_fraction(z, values, signed=signed), by_hand(z, values, signed))


def test_the_fraction_lies_between_nothing_and_all() -> None:
    values = torch.tensor([[1.0, -3.0], [0.0, 0.0], [math.nan, 1.0]])[None, None]
    z = torch.tensor([[[[0.0, 0.0, math.inf], [1.0, 1.0, math.inf], [9.0, 9.0, math.inf]]]])
    assert passing_fraction(z, values, signed=True).tolist() == [[[[1.0, 0.0, 0.0], [0.5, 0.0, 0.0], [0.0, 0.0, 0.0]]]]
    assert passing_fraction(z[..., :0, :], values, signed=True).shape == (1, 1, 0, 3)


def test_what_passes_is_the_output_of_values_of_one_sign() -> None:
    """Σ_j of positive values times their fractions, over features, is Σ_d of the attention output."""
    torch.manual_seed(0)
    q, k, v = torch.randn(2, 3, 4, 8), torch.randn(2, 3, 5, 8), torch.rand(2, 3, 5, 8) + 0.1
    ones, zeros = torch.ones(3), torch.zeros(3)
    given = {"gamma": ones, "eta": ones, "delta": 0.3 * ones, "length_exponent": zeros}
    output = inhibitor_attention(q, k, v, **given)
    z = inhibition_scores(q, k, gamma=ones, delta=0.3 * ones)
    passed = (passing_fraction(z, v, signed=True) * v.sum(-1)[:, :, None]).sum(-1)
    torch.testing.assert_close(passed, output.sum(-1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["Bert", "GPT2", "Llama", "ViT"])
def test_scores_are_the_models_own(name: str) -> None:
    """Z and probabilities that both models give as their attentions; causal, grouped and rotary heads too."""
    teacher, student, inputs = zoo.teacher(name), zoo.student(name), zoo.example(name)
    pairs = record_pairs(student, teacher, inputs)
    eager = copy.deepcopy(teacher)
    eager.set_attn_implementation("eager")
    with torch.no_grad():
        theirs = eager(**inputs, output_attentions=True).attentions
        ours = zoo.copied(name)(**inputs, output_attentions=True).attentions  # which leaves hooks in the model
    assert [pair.layer for pair in pairs] == [f"layer {i}" for i in range(len(theirs))]
    for pair, probabilities, z in zip(pairs, theirs, ours, strict=True):
        rows = inputs.get("attention_mask", torch.ones(len(z), z.shape[2])).bool()[:, None, :, None]
        torch.testing.assert_close(
            pair.probabilities.masked_fill(~rows, 0), probabilities.masked_fill(~rows, 0), rtol=1e-4, atol=1e-6
        )
        torch.testing.assert_close(pair.z.masked_fill(~rows, 0), z.masked_fill(~rows, 0), rtol=1e-5, atol=1e-6)
        assert ((pair.passing() >= 0) & (pair.passing() <= 1)).all()


@pytest.mark.parametrize("name", ["Albert", "ModernBert", "Mistral", "Gemma3", "T5", "Beit", "Swin"])
def test_other_architectures(name: str) -> None:
    """Repeated layers, sliding windows, relative positions, cross-attention, windows of pictures."""
    student = zoo.student(name)
    pairs = record_pairs(student, zoo.teacher(name), zoo.example(name))
    assert len(pairs) == sum(site.applications for site in student.config.record.sites)
    for pair in pairs:
        rows = pair.probabilities.sum(-1)
        torch.testing.assert_close(rows, (rows > 0).float(), rtol=1e-5, atol=1e-5)  # but for rows of padding alone
        assert ((pair.passing() >= 0) & (pair.passing() <= 1)).all()
        assert not pair.passing().masked_select(pair.probabilities == 0).any(), "both see the same keys"


def test_a_module_that_is_applied_several_times() -> None:
    teacher, student = zoo.teacher("Albert"), zoo.student("Albert")
    pairs = record_pairs(student, teacher, zoo.example("Albert"))
    (site,) = student.config.record.sites
    assert [pair.layer for pair in pairs] == [f"layer {i}" for i in range(site.applications)]
    assert not torch.equal(pairs[0].z, pairs[1].z)


def test_layers_are_named_by_their_numbers() -> None:
    teacher, inputs = zoo.teacher("GPT2"), zoo.example("GPT2")
    names = [site.name for site in zoo.student("GPT2").config.record.sites]
    (pair,) = record_pairs(convert(teacher, inputs, modules=names[1:2]), teacher, inputs)
    assert pair.layer == "layer 1"


def test_recording_leaves_the_student_as_it_was() -> None:
    student, inputs = zoo.copied("GPT2"), zoo.example("GPT2")
    before = zoo.run(student, **inputs)
    record_pairs(student, zoo.teacher("GPT2"), inputs)
    assert zoo.equal(before, zoo.run(student, **inputs))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in zoo.inhibitors(student).values())


@pytest.mark.parametrize(
    ("student", "teacher", "said"),
    [
        (lambda: zoo.teacher("GPT2"), lambda: zoo.teacher("GPT2"), "no model made by convert"),
        (lambda: zoo.student("GPT2"), lambda: zoo.student("GPT2"), "inhibitor attention itself"),
        (lambda: zoo.student("GPT2"), lambda: zoo.teacher("Llama"), "name the model that the student was made from"),
        (
            lambda: convert(zoo.teacher("GPT2"), zoo.example("GPT2"), form="l1_softmax", key_norm=False),
            lambda: zoo.teacher("GPT2"),
            "the baseline l1_softmax: it has no inhibition to show",
        ),
    ],
    ids=["softmax student", "inhibitor teacher", "another teacher", "baseline"],
)
def test_models_that_do_not_belong_together(student, teacher, said) -> None:
    with pytest.raises(ValueError, match=said):
        record_pairs(student(), teacher(), zoo.example("GPT2"))
