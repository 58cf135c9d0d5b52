"""Which engine serves a call, and what is said when none can."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from inhibitor_transformers.attention import available_engines, dispatch, engine_report, inhibitor_attention
from inhibitor_transformers.attention.call import AttentionCall
from inhibitor_transformers.attention.cpu import library
from inhibitor_transformers.attention.dispatch import REFERENCE, Engine


def nothing(call: AttentionCall) -> str | None:
    return None


def engine(
    name: str,
    unavailable: str | None = None,
    refuses: Callable[[AttentionCall], str | None] = nothing,
) -> Engine:
    """An engine whose output is all ones."""

    def run(call: AttentionCall) -> Tensor:
        return torch.ones_like(call.query)

    return Engine(name, lambda: f"the {name} one", run, lambda: unavailable, refuses)


def refuses_causal(call: AttentionCall) -> str | None:
    return "causal calls are not supported" if call.is_causal else None


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = engine("absent", unavailable="no such hardware")
    monkeypatch.setattr(dispatch, "ENGINES", (absent, engine("fast", refuses=refuses_causal), REFERENCE))


@pytest.fixture
def qkv() -> list[Tensor]:
    return [torch.randn(1, 2, 3, 4) for _ in range(3)]


def test_reference_is_always_there(qkv: list[Tensor]) -> None:
    assert available_engines()[-1] == "reference"
    by_name = inhibitor_attention(*qkv, engine="reference")
    torch.testing.assert_close(inhibitor_attention(*qkv, engine="auto"), by_name)


@pytest.mark.usefixtures("engines")
def test_auto_takes_the_first_that_can_serve(qkv: list[Tensor]) -> None:
    assert (inhibitor_attention(*qkv) == 1).all()
    causal = inhibitor_attention(*qkv, is_causal=True)
    assert torch.equal(causal, inhibitor_attention(*qkv, is_causal=True, engine="reference"))
    assert not (causal == 1).all()


@pytest.mark.usefixtures("engines")
def test_a_named_engine_is_taken_or_says_why_not(qkv: list[Tensor]) -> None:
    assert (inhibitor_attention(*qkv, engine="fast") == 1).all()
    with pytest.raises(ValueError, match="engine 'fast' cannot serve this call: causal calls are not supported"):
        inhibitor_attention(*qkv, engine="fast", is_causal=True)
    with pytest.raises(ValueError, match="engine 'absent' cannot serve this call: no such hardware"):
        inhibitor_attention(*qkv, engine="absent")


@pytest.mark.usefixtures("engines")
def test_an_unknown_engine_is_answered_with_the_known(qkv: list[Tensor]) -> None:
    with pytest.raises(ValueError, match=r"unknown engine 'quick'; known: \['auto', 'absent', 'fast', 'reference'\]"):
        inhibitor_attention(*qkv, engine="quick")


@pytest.mark.usefixtures("engines")
def test_a_missing_engine_is_named_once(
    qkv: list[Tensor], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """But not one for other devices than that of the call."""
    elsewhere = replace(engine("elsewhere", unavailable="no GPU"), device="cuda")
    monkeypatch.setattr(dispatch, "ENGINES", (elsewhere, *dispatch.ENGINES))
    monkeypatch.setattr(dispatch, "_logged", set())
    for _ in range(2):
        assert (inhibitor_attention(*qkv) == 1).all()
    assert caplog.messages == ["attention engine 'absent' is not available: no such hardware"]


@pytest.mark.usefixtures("engines")
def test_the_engine_of_an_ordinary_call() -> None:
    assert dispatch.serving_engine(torch.device("cpu")) == "fast"


@pytest.mark.usefixtures("engines")
def test_report_names_every_engine() -> None:
    assert available_engines() == ["fast", "reference"]
    assert engine_report() == [
        ("absent", "the absent one", "no such hardware"),
        ("fast", "the fast one", "available"),
        ("reference", REFERENCE.describe(), "available"),
    ]


@pytest.mark.skipif(library.unavailable() is not None, reason=f"engine cpu: {library.unavailable()}")
def test_the_report_says_which_instruction_set_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = library.load()
    for isa in kernels.isas:
        monkeypatch.setattr(kernels, "isa", isa)
        described = {name: description for name, description, _ in engine_report()}["cpu"]
        assert f"instruction set {isa} of {', '.join(kernels.isas)}" in described
        assert kernels.threading in described


@pytest.mark.usefixtures("engines")
def test_arguments_are_checked_before_an_engine_sees_them(qkv: list[Tensor]) -> None:
    with pytest.raises(ValueError, match="center must be one of"):
        inhibitor_attention(*qkv, engine="fast", center="median")
