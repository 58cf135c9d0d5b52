"""Calibration from recorded calls: it finds scalars that fit exactly, and reports errors that the student has."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from inhibitor_transformers import convert
from inhibitor_transformers.distill.stages.calibrate_calls import GRIDS, calibrate_calls
from inhibitor_transformers.models.conversion.recording import AttentionCall, record_attention, replay
from tests.models.conversion.zoo import example, inhibitors, padded, teacher

FORMS: dict[str, dict[str, Any]] = {
    "default": {},
    "mean": {"center": "mean", "normalize": False},
    "paper": {"center": "mean", "normalize": False, "key_norm": False},
    "l1_softmax": {"form": "l1_softmax"},
    "query_scale": {"query_scale": True},
}


def recorded(model: Any, student: Any, inputs: dict[str, Any]) -> list[AttentionCall]:
    with torch.no_grad(), record_attention(model, student.config.record) as calls:
        model(**inputs, use_cache=False)
    return calls


def real_rows(call: AttentionCall) -> Tensor:
    """(B, Nq) bool: queries that are no padding, of modules in which padding asks as well as answers."""
    padding, queries = call.masks.key_padding_mask, call.query.shape[2]
    if padding is None or queries != call.key.shape[2]:
        return torch.ones(len(call.query), queries, dtype=torch.bool)
    return padding


def relative_errors(student: Any, calls: list[AttentionCall]) -> list[list[float]]:
    """Of each call and head: Σ|student − teacher|² / Σ|teacher|² over the rows that are no padding."""
    with torch.no_grad():
        outputs = replay(student, calls)
    errors = []
    for ours, call in zip(outputs, calls, strict=True):
        kept = real_rows(call)
        difference, target = (ours - call.output)[kept], call.output[kept]
        errors.append((difference.square().sum((0, 2)) / target.square().sum((0, 2))).tolist())
    return errors


@pytest.mark.parametrize("name", ["GPT2", "Llama", "T5", "Albert"])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_the_errors_are_those_that_the_student_has(name: str, form: dict[str, Any]) -> None:
    model = teacher(name)
    student = convert(model, example(name), **form)
    calls = recorded(model, student, example(name))
    before = relative_errors(student, calls)
    result = calibrate_calls(student, [calls])
    torch.testing.assert_close(torch.tensor(result.before), torch.tensor(before), rtol=1e-3, atol=1e-4)
    after = torch.tensor(relative_errors(student, calls))
    torch.testing.assert_close(torch.tensor(result.relative_error), after, rtol=1e-3, atol=1e-4)
    assert (after <= torch.tensor(before) + 1e-4).all()
    assert after.mean() < 0.5 * torch.tensor(before).mean()


@pytest.mark.parametrize("form", ["default", "mean", "paper"])
def test_scalars_of_the_grid_are_found_again(form: str) -> None:
    """A teacher that computes inhibitor attention is met exactly."""
    model = teacher("Llama")
    student = convert(model, example("Llama"), **FORMS[form])
    calls = recorded(model, student, example("Llama"))
    calibrate_calls(student, [calls])
    wanted = {name: p.clone() for name, p in student.named_parameters() if ".inhibitor." in name}
    with torch.no_grad():
        targets = replay(student, calls)
        taught = [call._replace(output=target) for call, target in zip(calls, targets, strict=True)]
        for module in inhibitors(student).values():
            for scalars in module.applications:
                scalars.reset_parameters()
    result = calibrate_calls(student, [taught])
    assert torch.tensor(result.relative_error).max() < 1e-4
    assert wanted.keys() == {name for name, _ in student.named_parameters() if ".inhibitor." in name}


def test_a_head_that_the_grid_cannot_better_keeps_its_own() -> None:
    model = teacher("GPT2")
    student = convert(model, example("GPT2"))
    calls = recorded(model, student, example("GPT2"))
    calibrate_calls(student, [calls])
    kept = {name: p.clone() for name, p in student.named_parameters()}
    result = calibrate_calls(student, [calls], gamma=[1e-3], delta=[100.0])
    assert result.before == result.relative_error
    for name, parameter in student.named_parameters():
        assert torch.equal(parameter, kept[name]), name


@pytest.mark.parametrize("name", ["GPT2", "Llama"])
def test_padding_counts_for_nothing(name: str) -> None:
    model = teacher(name)
    inputs = padded()
    student = convert(model, example(name))
    calls = recorded(model, student, inputs)
    assert torch.equal(real_rows(calls[0]), inputs["attention_mask"].bool())
    assert not inputs["attention_mask"].all()
    result = calibrate_calls(student, [calls])
    after = torch.tensor(relative_errors(student, calls))
    torch.testing.assert_close(torch.tensor(result.relative_error), after, rtol=1e-3, atol=1e-4)


def test_scalars_per_application_or_for_all() -> None:
    model = teacher("Albert")
    counts = []
    for per_application in (True, False):
        student = convert(model, example("Albert"), per_application=per_application)
        counts.append(len(calibrate_calls(student, [recorded_without_cache(model, student)]).relative_error))
    assert counts == [3, 1]


def recorded_without_cache(model: Any, student: Any) -> list[AttentionCall]:
    with torch.no_grad(), record_attention(model, student.config.record) as calls:
        model(**example("Albert"))
    return calls


def test_values_that_are_not_finite_are_refused() -> None:
    model = teacher("GPT2")
    student = convert(model, example("GPT2"))
    calls = recorded(model, student, example("GPT2"))
    broken = calls[0]._replace(output=calls[0].output * torch.inf)
    with pytest.raises(ValueError, match=r"transformer\.h\.0\.attn: its attention output is not finite"):
        calibrate_calls(student, [[broken]])


def test_every_centering_has_a_grid() -> None:
    assert set(GRIDS) == {"mean", "none", "min"}
