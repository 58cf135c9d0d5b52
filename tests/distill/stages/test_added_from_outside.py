"""What a user adds without a change to the package: a whole stage, and a loss term of a stage that is there."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch
import yaml
from torch import Tensor
from transformers import AutoModelForMaskedLM, PreTrainedModel

from inhibitor_transformers.common.settings import ConfigError
from inhibitor_transformers.distill.data import StepBatches, token_windows
from inhibitor_transformers.distill.losses import Terms, squared_error
from inhibitor_transformers.distill.pairing import Pairing
from inhibitor_transformers.distill.stages import STAGES
from inhibitor_transformers.distill.stages.align_attention import AlignAttention
from inhibitor_transformers.distill.stages.base import Models, RunContext, Stage, TrainedStage
from inhibitor_transformers.distill.teacher.teacher import Teacher, model_inputs
from inhibitor_transformers.models import (
    InhibiDistilBertForSequenceClassification,
    LayerMap,
)
from inhibitor_transformers.models.architectures import attention_layers
from tests.distill.chains import CALIBRATE, distill, settings, trained
from tests.distill.tiny import weights_of


@dataclass
class ScaleEta(Stage):
    """Trains nothing: multiplies η."""

    name: ClassVar[str] = "scale_eta"
    lengths: ClassVar[list[int]] = [8]
    factor: float = 1.0

    def check_texts(self, texts, tokenizer) -> None:
        token_windows(texts, tokenizer, self.lengths, max_tokens=1)

    def run(self, context: RunContext) -> None:
        context.log(f"eta times {self.factor}")
        with torch.no_grad():
            for layer in attention_layers(context.student):
                layer.scalars.eta.mul_(self.factor)


@dataclass
class ReadsNothing(Stage):
    """No texts, and no `lengths`."""

    name: ClassVar[str] = "reads_nothing"

    def check_texts(self, texts, tokenizer) -> None:
        pass

    def run(self, context: RunContext) -> None:
        context.log("nothing read")


class LastStateLoss:
    """Squared error of the last hidden states."""

    def __init__(self, teacher: Teacher, layer: int, weight: float) -> None:
        self.teacher, self.layer, self.weight = teacher, layer, weight

    def __call__(self, model: PreTrainedModel, batch: Mapping[str, Tensor], count: Tensor | float) -> Terms:
        ours = model(**model_inputs(batch)).last_hidden_state
        theirs = self.teacher(batch, hidden=True).hidden[self.layer]
        return {"last": self.weight * squared_error(ours, theirs, batch["attention_mask"].bool(), count)}


@dataclass
class AlignLast(TrainedStage):
    """A trained stage: only the last layer, with what a cache can keep."""

    name: ClassVar[str] = "align_last"
    weight: float = 1.0

    def teacher_outputs(self, layer_map: LayerMap) -> list[str]:
        return [f"hidden-{layer_map.teacher_depth}"]

    def select_trainable(self, pairing: Pairing) -> None:
        pairing.student.requires_grad_(False)
        attention_layers(pairing.student)[-1].module.requires_grad_(True)

    def make_loss(self, context: RunContext, dataset: StepBatches) -> LastStateLoss:
        return LastStateLoss(context.teacher, context.pairing.layer_map.teacher_depth, self.weight)


@dataclass
class AlignAttentionSmallEta(AlignAttention):
    """A stage of the package with one term more: large η are dear."""

    name: ClassVar[str] = "align_attention_small_eta"
    eta_weight: float = 0.1

    def make_loss(self, context: RunContext, dataset: StepBatches) -> Callable[..., Terms]:
        loss = super().make_loss(context, dataset)
        etas = [layer.scalars.eta for layer in attention_layers(context.student)]

        def with_eta(model: PreTrainedModel, batch: Mapping[str, Tensor], count: Tensor | float) -> Terms:
            share = (batch["labels"] != -100).sum() / count  # a term of a part of the batch counts as its tokens
            return loss(model, batch, count) | {"eta": self.eta_weight * share * torch.cat(etas).square().mean()}

        return with_eta


@dataclass
class NeedsAnotherHead(ScaleEta):
    name: ClassVar[str] = "needs_another_head"
    models: ClassVar[Models] = Models(InhibiDistilBertForSequenceClassification, AutoModelForMaskedLM)


@pytest.fixture(autouse=True)
def added(monkeypatch):
    for stage in (ScaleEta, ReadsNothing, AlignLast, AlignAttentionSmallEta, NeedsAnotherHead):
        monkeypatch.setitem(STAGES, stage.name, stage)


def losses_of(folder: Path, stage: str) -> list[dict[str, float]]:
    log = json.loads((folder / "stages" / stage / "log.json").read_text())
    return [entry for entry in log if "loss" in entry]


def test_a_stage_is_run_from_yaml_with_its_own_settings(teacher_path, text_path, tmp_path):
    stages = yaml.safe_load("[{calibrate: {lengths: [16], tokens_per_length: 64}}, {scale_eta: {factor: 2.0}}]")
    said = distill(settings(teacher_path, text_path, stages), tmp_path / "run")
    assert "stage 2 of 2: scale_eta" in said
    assert "eta times 2.0" in said
    before, after = weights_of(tmp_path / "run" / "stages" / "1-calibrate" / "student"), weights_of(tmp_path / "run")
    for name, tensor in before.items():
        assert torch.equal(after[name], 2 * tensor if name.endswith("inhibitor.eta") else tensor)


def test_a_stage_may_read_no_texts(teacher_path, text_path, tmp_path):
    """Without `lengths` it failed once the models were loaded."""
    assert "nothing read" in distill(settings(teacher_path, text_path, [{"reads_nothing": {}}]), tmp_path / "run")


@pytest.mark.parametrize("cached", [False, True])
def test_a_trained_stage_trains_what_it_selects_and_reads_the_cache(cached, teacher_path, text_path, tmp_path):
    cache = {"teacher_cache": {"folder": str(tmp_path / "cache"), "dtype": "float32"}} if cached else {}
    run = settings(teacher_path, text_path, [CALIBRATE, trained("align_last", weight=0.5)], **cache)
    distill(run, tmp_path / "run")
    before, after = weights_of(tmp_path / "run" / "stages" / "1-calibrate" / "student"), weights_of(tmp_path / "run")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith("transformer.layer.1.attention.") for name in changed)
    assert all(
        entry["loss"] == pytest.approx(entry["loss/last"]) for entry in losses_of(tmp_path / "run", "2-align_last")
    )
    assert [file.name for file in (tmp_path / "cache").rglob("*.npy")] == (["hidden-2.npy"] if cached else [])


def test_a_stage_has_its_checks_of_settings(teacher_path, text_path, tmp_path):
    run = settings(teacher_path, text_path, [trained("align_last", wieght=0.5)])
    with pytest.raises(ConfigError, match=r"stage 'align_last' has no setting 'wieght' \(did you mean 'weight'\?\)"):
        distill(run, tmp_path / "run")


def test_a_loss_term_is_summed_and_logged(teacher_path, text_path, tmp_path):
    run = settings(teacher_path, text_path, [CALIBRATE, trained("align_attention_small_eta", eta_weight=3.0)])
    distill(run, tmp_path / "run")
    entries = losses_of(tmp_path / "run", "2-align_attention_small_eta")
    assert len(entries) == 3
    for entry in entries:
        terms = [entry["loss/eta"], *(entry[f"loss/attention/layer_{i}"] for i in range(2))]
        assert entry["loss"] == pytest.approx(sum(terms), rel=1e-5)
    etas = [t for n, t in weights_of(tmp_path / "run" / "stages/1-calibrate/student").items() if n.endswith(".eta")]
    assert entries[0]["loss/eta"] == pytest.approx(3.0 * float(torch.cat(etas).square().mean()), rel=0.2)


def test_stages_that_need_different_heads_are_refused(masked_lm_path, text_path, tmp_path):
    run = settings(masked_lm_path, text_path, [trained("masked_lm"), {"needs_another_head": {}}])
    with pytest.raises(ConfigError, match="masked_lm and needs_another_head need models with different heads"):
        distill(run, tmp_path / "run")
