"""`inhibit convert`, `distill` and `evaluate` on models that are no DistilBERT, BERT or RoBERTa."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from inhibitor_transformers.models.pretrained import load_as_saved
from tests.distill.any_model import image_folder, saved_teacher

CALIBRATE = {"calibrate": {"examples": 8}}


@pytest.fixture(scope="session")
def gpt2(tmp_path_factory) -> str:
    return saved_teacher("gpt2", Path(tmp_path_factory.mktemp("gpt2")))


@pytest.fixture(scope="session")
def vit(tmp_path_factory) -> str:
    return saved_teacher("vit", Path(tmp_path_factory.mktemp("vit")))


@pytest.fixture(scope="session")
def images(tmp_path_factory) -> str:
    return image_folder(Path(tmp_path_factory.mktemp("images")))


@pytest.fixture(scope="session")
def decoder(tmp_path_factory, gpt2) -> str:
    """A folder with texts of the words that `gpt2` knows, by split."""
    from tests.distill.tiny import sentences

    folder = Path(tmp_path_factory.mktemp("text"))
    for seed, split in enumerate(("train", "validation")):
        (folder / f"{split}.jsonl").write_text("\n".join(json.dumps({"text": t}) for t in sentences(60, seed=seed)))
    return str(folder)


class TestConvert:
    def test_a_decoder(self, inhibit, gpt2, texts, tmp_path):
        done = inhibit("convert", gpt2, tmp_path / "out", "--text", texts)
        assert done.status == 0, done.err
        assert "InhibitorGPT2LMHeadModel: 2 of 2 attention modules compute inhibitor attention" in done.out
        assert type(load_as_saved(tmp_path / "out")).__name__ == "InhibitorGPT2LMHeadModel"

    def test_a_part_of_a_vision_model(self, inhibit, vit, images, tmp_path):
        done = inhibit("convert", vit, tmp_path / "out", "--images", images, "--module", "vit.layers.1")
        assert done.status == 0, done.err
        assert "1 of 2 attention modules" in done.out
        assert (tmp_path / "out" / "preprocessor_config.json").exists()

    def test_a_dry_run_shows_what_would_be_converted(self, inhibit, gpt2, tmp_path):
        done = inhibit("convert", gpt2, tmp_path / "out", "--dry-run")
        assert "transformer.h.0.attn … transformer.h.1.attn (2)" in done.out
        assert not (tmp_path / "out").exists()

    def test_refusals(self, refused, gpt2, vit, images, tmp_path):
        out = tmp_path / "out"
        assert "reads images, not text" in refused("convert", vit, out)
        assert "reads text, not images" in refused("convert", gpt2, out, "--images", images)
        assert "is or lies in 'nowhere'" in refused("convert", gpt2, out, "--module", "nowhere")
        assert "layers cannot be set for a converted student" in refused("convert", gpt2, out, "--layers", "first 1")
        assert not out.exists()


class TestDistill:
    def test_images_in_place_of_the_yaml_s_texts(self, inhibit, vit, images, tmp_path):
        file = tmp_path / "run.yaml"
        file.write_text(yaml.safe_dump({"teacher": vit, "text": ["nowhere.txt"], "stages": [CALIBRATE]}))
        done = inhibit("distill", file, "--output", tmp_path / "out", "--images", images)
        assert done.status == 0, done.err
        assert type(load_as_saved(tmp_path / "out")).__name__ == "InhibitorViTForImageClassification"

    def test_two_kinds_of_data(self, refused, vit, images, tmp_path):
        file = tmp_path / "run.yaml"
        file.write_text(yaml.safe_dump({"teacher": vit, "stages": [CALIBRATE]}))
        message = refused("distill", file, "-o", tmp_path / "out", "--images", images, "--text", "this-machine")
        assert "a run learns from text, images or audio: one of them" in message


class TestEvaluate:
    def scores(self, file: Path) -> dict[str, dict[str, dict[str, float]]]:
        return json.loads(file.read_text())["rows"]

    def test_what_a_head_is_for(self, inhibit, gpt2, vit, decoder, images, tmp_path):
        done = inhibit("evaluate", gpt2, "--task", "head", "--data", decoder, "-o", tmp_path / "a.json")
        assert done.status == 0, done.err
        assert self.scores(tmp_path / "a.json")[gpt2]["validation"]["perplexity"] > 1
        done = inhibit(
            "evaluate", vit, "--task", "head", "--data", images, "--split", "train", "-o", tmp_path / "b.json"
        )
        assert done.status == 0, done.err
        assert 0 <= self.scores(tmp_path / "b.json")[vit]["train"]["accuracy"] <= 1

    def test_next_tokens(self, inhibit, gpt2, decoder, texts, tmp_path):
        inhibit("convert", gpt2, tmp_path / "student", "--text", texts)
        student = str(tmp_path / "student")
        options = ("--data", decoder, "--max-length", "16", "--max-eval-examples", "4", "-o", tmp_path / "scores.json")
        done = inhibit("evaluate", student, "--teacher", gpt2, "--task", "next-tokens", *options)
        assert done.status == 0, done.err
        rows = self.scores(tmp_path / "scores.json")
        assert rows[gpt2]["next tokens"]["agreement, 64 tokens"] == 1.0
        assert 0 < rows[student]["next tokens"]["agreement, 64 tokens"] < 1

    def test_refusals(self, refused, gpt2, vit, decoder):
        assert "name it with --teacher" in refused("evaluate", gpt2, "--task", "next-tokens", "--data", decoder)
        assert "name a folder or file with --data" in refused("evaluate", gpt2, "--task", "head")
        message = refused("evaluate", gpt2, "--teacher", vit, "--task", "next-tokens", "--data", decoder)
        assert "which writes no text" in message or "no tokenizer" in message
