"""Throughput is batch over seconds, on equal terms for all models."""

from __future__ import annotations

import pytest
import torch

from inhibitor_transformers.evaluation import throughput
from inhibitor_transformers.evaluation.throughput import sequences_per_second
from inhibitor_transformers.models import InhibiDistilBertModel
from tests.distill.tiny import bert


class Recorder:
    """Stands for a model: notes its inputs, and takes `seconds` of a clock that the test owns."""

    def __init__(
        self, clock: list[float], order: list[str], name: str, seconds: list[float], vocab_size: int = 50
    ) -> None:
        self.clock, self.order, self.name, self.seconds = clock, order, name, iter(seconds)
        self.config = type("Config", (), {"vocab_size": vocab_size})
        self.device = torch.device("cpu")
        self.base_model = self
        self.inputs: list[dict[str, torch.Tensor]] = []

    def eval(self) -> Recorder:
        return self

    def __call__(self, **inputs: torch.Tensor) -> None:
        self.inputs.append(inputs)
        self.order.append(self.name)
        self.clock[0] += next(self.seconds)


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: now[0])
    return now


def test_batch_over_the_median_of_the_rounds_without_the_first(clock):
    order: list[str] = []
    a = Recorder(clock, order, "a", [100.0, 2.0, 4.0, 400.0])
    b = Recorder(clock, order, "b", [100.0, 1.0, 0.5, 0.25])
    assert sequences_per_second({"a": a, "b": b}, 8, 16, rounds=3) == {"a": 2.0, "b": 16.0}


def test_models_take_turns(clock):
    order: list[str] = []
    models = {name: Recorder(clock, order, name, [1.0] * 3) for name in "ab"}
    sequences_per_second(models, 2, 8, rounds=2)
    assert order == ["a", "b"] * 3


def test_all_see_the_same_tokens_of_the_smaller_vocabulary_without_padding(clock):
    order: list[str] = []
    small, large = Recorder(clock, order, "s", [1.0] * 3, 20), Recorder(clock, order, "l", [1.0] * 3, 500)
    sequences_per_second({"l": large, "s": small}, 16, 32, rounds=2)
    (first,) = {tuple(i["input_ids"].flatten().tolist()) for m in (small, large) for i in m.inputs}
    assert len(first) == 16 * 32
    assert set(first) == set(range(5, 20))
    assert all(bool(i["attention_mask"].all()) for i in small.inputs)


def test_real_models_without_gradients_in_evaluation_mode():
    teacher = bert().train()
    seen = []
    teacher.register_forward_hook(lambda m, *_: seen.append((m.training, torch.is_grad_enabled())))
    models = {"teacher": teacher, "student": InhibiDistilBertModel.from_teacher(teacher)}
    found = sequences_per_second(models, 2, 16, rounds=2)
    assert list(found) == ["teacher", "student"]
    assert all(0 < value < 1e6 for value in found.values())
    assert set(seen) == {(False, False)}
