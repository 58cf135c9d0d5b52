"""Runs whose student is a converted model: of any architecture, on texts, images and sound, resumed and refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from inhibitor_transformers.common.settings import ConfigError
from inhibitor_transformers.distill import Distillation, DistillConfig
from inhibitor_transformers.distill.stages.align_attention import AttentionOutputLoss
from inhibitor_transformers.distill.stages.align_hidden import HiddenStateLoss
from inhibitor_transformers.models.pretrained import load_as_saved
from inhibitor_transformers.tasks.modalities.inputs import forward_inputs
from tests.distill.any_model import OF_TEXT, audio_folder, image_folder, make, saved_teacher
from tests.distill.chains import RUNTIME, distill
from tests.distill.test_resume import StoppedError, interrupt
from tests.distill.tiny import assert_same_weights, sentences, text_file

KINDS = ("llama", "gpt2", "albert", "t5", "bart", "vit", "swin", "ast", "whisper")
STEPS = {"max_steps": 6, "learning_rate": 1e-3, "save_steps": 2, "logging_steps": 2}
OF_TEXTS = {"tokens_per_step": 128, "lengths": [16, 32]}


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> dict[str, Any]:
    """Sources by what a configuration calls them."""
    folder = Path(tmp_path_factory.mktemp("data"))
    texts = text_file(folder, sentences(200))
    return {"text": [texts], "images": image_folder(folder / "images"), "audio": audio_folder(folder / "audio")}


@pytest.fixture(scope="session")
def teachers(tmp_path_factory) -> dict[str, str]:
    return {kind: saved_teacher(kind, Path(tmp_path_factory.mktemp(kind))) for kind in KINDS}


def run_of(kind: str, teachers: dict[str, str], data: dict[str, Any], **hidden: Any) -> dict[str, Any]:
    """Settings of a short run of all alignment stages."""
    name = "text" if kind in OF_TEXT else "audio" if kind in ("ast", "whisper") else "images"
    batches = OF_TEXTS if name == "text" else {"examples_per_step": 8}
    calibrate = {"lengths": [16, 32], "tokens_per_length": 128} if name == "text" else {"examples": 8}
    stages = [
        {"calibrate": calibrate},
        {"align_attention": STEPS | batches},
        {"align_hidden": STEPS | batches | {"logits_weight": 1.0} | hidden},
    ]
    return {"teacher": teachers[kind], "stages": stages, name: data[name]}


@pytest.fixture(scope="module", params=KINDS)
def finished(request, teachers, data, tmp_path_factory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp("run") / request.param
    distill(run_of(request.param, teachers, data), folder)
    return request.param, folder


def losses(folder: Path, stage: str) -> list[dict[str, float]]:
    return [entry for entry in json.loads((folder / "stages" / stage / "log.json").read_text()) if "loss" in entry]


class TestEveryArchitecture:
    def test_calibration_betters_every_module(self, finished):
        found = json.loads((finished[1] / "stages/1-calibrate/calibration.json").read_text())
        for before, after in zip(found["before"], found["relative_error"], strict=True):
            assert sum(after) < sum(before)
            assert max(after) <= 1.001

    def test_terms_are_named_by_module(self, finished):
        kind, folder = finished
        names = {name for name in losses(folder, "2-align_attention")[0] if name.startswith("loss/")}
        modules = dict(make(kind).named_modules())
        assert all(name.removeprefix("loss/attention/").partition("#")[0] in modules for name in names)
        assert len(names) == {"t5": 6, "bart": 6, "whisper": 6, "swin": 4}.get(kind, 2)
        hidden = losses(folder, "3-align_hidden")[0]
        blocks = {"t5": 4, "bart": 4, "whisper": 4, "swin": 4}.get(kind, 2)
        assert sum(name.startswith("loss/hidden/") for name in hidden) == blocks
        assert hidden["loss/logits"] > -1e-6

    def test_the_folder_reloads_as_what_was_trained(self, finished):
        kind, folder = finished
        student = load_as_saved(folder, encoder=False)
        assert isinstance(student, type(make(kind)))
        assert len(student.inhibitor_report().record.unconverted) == 0

    def test_the_student_is_nearer_to_its_teacher_after_training(self, finished):
        kind, folder = finished
        if kind not in ("bart", "albert"):
            pytest.skip("what six steps on random data learn is not general")
        teacher = make(kind)
        start, end = (load_as_saved(folder / path, encoder=False) for path in ("stages/1-calibrate/student", ""))
        batch = {"input_ids": torch.arange(5, 29).reshape(2, 12), "attention_mask": torch.ones(2, 12, dtype=torch.long)}
        with torch.no_grad():
            theirs, *ours = (m(**forward_inputs(teacher, batch)).logits for m in (teacher, start, end))
        assert (ours[1] - theirs).norm() < (ours[0] - theirs).norm()


@pytest.mark.sampled(5)
@pytest.mark.parametrize("kind", ["gpt2", "vit", "albert"])
@pytest.mark.parametrize("criterion", [AttentionOutputLoss, HiddenStateLoss])
def test_an_interrupted_run_ends_with_the_same_weights(kind, criterion, teachers, data, tmp_path, monkeypatch):
    config = run_of(kind, teachers, data)
    distill(config, tmp_path / "whole")
    with monkeypatch.context() as patch:
        interrupt(patch, criterion, 4)
        with pytest.raises(StoppedError):
            distill(config, tmp_path / "run")
    said = distill(config, tmp_path / "run", resume=True)
    assert "resuming from checkpoint-2" in said
    whole, resumed = (weights(load_as_saved(tmp_path / name, encoder=False)) for name in ("whole", "run"))
    assert [name for name in whole if not torch.equal(whole[name], resumed[name])] == []


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def changed_by(stage: int, config: dict[str, Any], output: Path) -> set[str]:
    """Names of the parameters that the last stage changed."""
    distill(config | {"stages": config["stages"][: stage + 1]}, output)
    before, after = (
        weights(
            load_as_saved(output / "stages" / f"{i + 1}-{next(iter(config['stages'][i]))}" / "student", encoder=False)
        )
        for i in (stage - 1, stage)
    )
    return {name for name, p in before.items() if not torch.equal(p, after[name])}


class TestWhatIsTrained:
    def test_attention_alignment_trains_what_comes_before_attention(self, teachers, data, tmp_path):
        changed = changed_by(1, run_of("llama", teachers, data), tmp_path / "run")
        parts = {name.partition("self_attn.")[2].split(".")[0] for name in changed}
        assert parts == {"q_proj", "k_proj", "v_proj", "inhibitor"}

    @pytest.mark.parametrize(
        ("kind", "embeddings"),
        [("gpt2", ("transformer.wte", "transformer.wpe")), ("vit", ("vit.embeddings",)), ("bart", ("model.shared",))],
    )
    def test_hidden_alignment_trains_all_but_embeddings(self, kind, embeddings, teachers, data, tmp_path):
        changed = changed_by(2, run_of(kind, teachers, data), tmp_path / "run")
        assert changed
        assert not any(name.startswith(embeddings) or ".embed_positions" in name for name in changed)


class TestRefused:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"layers": [0]}, "layers cannot be set for a converted student: it has all layers of its teacher"),
            ({"segments": "fold"}, "segments cannot be set for a converted student"),
            ({"student": {"inhibitor_center": "none"}}, "student cannot be set for a converted student"),
            ({"teacher_cache": "somewhere"}, "teacher_cache cannot be set for a converted student"),
            ({"convert": {"moduls": []}}, r"convert has no setting 'moduls' \(did you mean 'modules'\?\)"),
            ({"convert": {"center": "median"}}, "convert: center must be one of"),
            ({"convert": {"modules": "transformer"}}, "convert: modules must be a list of names"),
            ({"convert": {"modules": ["nowhere"]}}, "is or lies in 'nowhere'"),
            ({"student_class": "inhibidistilbert"}, "tokenizer of .* has no padding token"),
            ({"student_class": "other"}, "student_class must be one of auto, inhibidistilbert, converted"),
            ({"stages": [{"masked_lm": {"lengths": [16]}}]}, "masked_lm trains an InhibiDistilBERT"),
            (
                {"stages": [{"align_hidden": {"lengths": [16], "pooled_weight": 1.0}}]},
                "pooled_weight: .* is no encoder",
            ),
            (
                {"stages": [{"align_hidden": {"lengths": [16], "masked_fraction": 0.1}}]},
                "masked_fraction: the tokenizer has no mask",
            ),
            ({"stages": [{"align_hidden": {"examples_per_step": 4}}]}, "examples_per_step has no meaning for texts"),
            ({"stages": [{"align_hidden": {"lengths": [500]}}]}, "500 tokens are more than this gpt2 model can read"),
            ({"audio": "somewhere"}, "a run learns from text, images or audio: one of them"),
        ],
    )
    def test_settings(self, changes, message, teachers, data, tmp_path):
        with pytest.raises(ValueError, match=message):
            Distillation(DistillConfig(**(run_of("gpt2", teachers, data) | changes)), tmp_path / "run").run()
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize(
        ("stage", "message"),
        [
            ({"align_hidden": {"lengths": [16]}}, "lengths has no meaning for images and audio"),
            (
                {"align_hidden": {"examples_per_step": 1000}},
                r"examples_per_step \(1000\) is more than the \d+ examples",
            ),
        ],
    )
    def test_settings_of_images(self, stage, message, teachers, data, tmp_path):
        run = {"teacher": teachers["vit"], "images": data["images"], "stages": [stage]}
        with pytest.raises(ValueError, match=message):
            Distillation(DistillConfig(**run), tmp_path / "run", runtime=RUNTIME)

    def test_fractions_of_images_are_not_to_be_set(self, teachers, data):
        with pytest.raises(ConfigError, match="held_out cannot be set for images and audio"):
            DistillConfig(teacher=teachers["vit"], images=data["images"], held_out=0.2, stages=[{"calibrate": {}}])

    def test_a_teacher_of_which_no_inhibidistilbert_is_made(self, teachers, data, tmp_path):
        run = run_of("albert", teachers, data) | {"student_class": "inhibidistilbert"}
        with pytest.raises(ValueError, match="no student can be built from a 'albert' teacher"):
            Distillation(DistillConfig(**run), tmp_path / "run", runtime=RUNTIME)

    def test_a_logits_weight_where_there_is_no_head(self, teacher_path, text_path, tmp_path):
        stage = {"align_hidden": {"logits_weight": 1.0, "lengths": [16]}}
        run = {"teacher": teacher_path, "text": [text_path], "stages": [stage]}
        with pytest.raises(ValueError, match="logits_weight: InhibiDistilBertModel is aligned without a head"):
            Distillation(DistillConfig(**run), tmp_path / "run", runtime=RUNTIME)


class TestInitFrom:
    def test_a_converted_student_goes_on(self, teachers, data, tmp_path):
        config = run_of("gpt2", teachers, data)
        distill(config | {"stages": config["stages"][:1]}, tmp_path / "first")
        further = config | {"stages": config["stages"][1:2], "init_from": str(tmp_path / "first")}
        distill(further, tmp_path / "second")
        distill(config | {"stages": config["stages"][:2]}, tmp_path / "at once")
        assert_same_weights(tmp_path / "second", tmp_path / "at once")

    def test_of_another_architecture(self, teachers, data, tmp_path):
        config = run_of("gpt2", teachers, data)
        for source, message in (("llama", "is no converted model"), ("gpt2", "is no converted model")):
            with pytest.raises(ConfigError, match=message):
                Distillation(DistillConfig(**(config | {"init_from": teachers[source]})), tmp_path / "run")


def test_a_bert_may_be_converted_too(teacher_path, text_path, tmp_path):
    run = {"teacher": teacher_path, "text": [text_path], "student_class": "converted"}
    distill(run | {"stages": [{"calibrate": {"lengths": [16], "tokens_per_length": 64}}]}, tmp_path / "run")
    assert type(load_as_saved(tmp_path / "run")).__name__ == "InhibitorBertModel"


def test_a_part_of_a_model_is_converted(teachers, data, tmp_path):
    config = run_of("llama", teachers, data) | {"convert": {"modules": ["model.layers.1"], "query_scale": True}}
    distill(config, tmp_path / "run")
    record = load_as_saved(tmp_path / "run", encoder=False).config.record
    assert [site.name for site in record.sites] == ["model.layers.1.self_attn"]
    assert record.options.query_scale
    hidden = [name for name in losses(tmp_path / "run", "3-align_hidden")[0] if name.startswith("loss/hidden/")]
    assert len(hidden) == 2, "all blocks are compared, converted or not"


def test_tokens_are_hidden_from_both(teachers, data, tmp_path):
    config = run_of("albert", teachers, data, masked_fraction=0.15)
    distill(config, tmp_path / "run")
    assert losses(tmp_path / "run", "3-align_hidden")[-1]["loss/logits"] > 0
