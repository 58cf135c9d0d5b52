"""The scripts that train a teacher write a folder that Auto classes load; how good it is is not asserted here."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForAudioClassification, AutoModelForCausalLM, AutoModelForImageClassification

from inhibitor_transformers.tasks.modalities import load_preprocessor
from tests.scripts import Script
from tests.tasks.modalities.tiny import as_files, png, sentences, tone, wav, write_parquet


def run(module: object, monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    """Call the script's main as the command line does; the tests' threads stay as they are."""
    monkeypatch.setattr(module, "quiet", lambda threads: None)
    monkeypatch.setattr(sys, "argv", ["script", *map(str, arguments), "--no-bf16"])
    module.main()  # type: ignore[attr-defined]


def test_the_learning_rate_rises_and_falls(script: Script) -> None:
    factor = script("training").learning_rate_factor
    assert [factor(step, 100) for step in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert factor(5, 100) == pytest.approx(1.0)
    assert factor(100, 100) == pytest.approx(0.01)
    assert all(factor(step, 100) > factor(step + 1, 100) for step in range(5, 100))


def test_every_epoch_holds_each_example_once(script: Script) -> None:
    order = script("training").epochs(10, 25, seed=1)
    assert [sorted(order[i : i + 10]) for i in (0, 10)] == [list(range(10))] * 2
    assert order[:10].tolist() != order[10:20].tolist()
    assert len(order) == 25


@pytest.mark.parametrize("name", ["gpt2", "llama", "llama-window"])
def test_decoders(script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    causal_lm = script("causal_lm")
    monkeypatch.setattr(causal_lm, "CONTEXT", 16)
    monkeypatch.setattr(causal_lm, "WIDTH", 32)
    for split in ("train", "validation"):
        write_parquet(tmp_path / "data" / f"{split}.parquet", text=sentences(60, 12))
    folder = tmp_path / name
    options = ["--output", folder, "--data", tmp_path / "data", "--steps", 2, "--batch-size", 2]
    run(causal_lm, monkeypatch, name, *options)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), load_preprocessor(folder)
    assert model.config.num_hidden_layers == 6
    assert getattr(model.config, "sliding_window", None) == (64 if name == "llama-window" else None)
    if name != "gpt2":
        assert (model.config.num_attention_heads, model.config.num_key_value_heads) == (4, 2)
    assert tokenizer.decode(tokenizer("the old cat")["input_ids"]) == "the old cat"
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    assert (folder / "metric.txt").read_text().startswith("perplexity ")
    if name == "llama":  # the window's weights can start from these
        run(
            causal_lm, monkeypatch, "llama-window", "--init-from", folder, *options[2:], "--output", tmp_path / "window"
        )


def test_images(script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vit = script("vit")
    for split in ("train", "test"):
        write_parquet(
            tmp_path / f"{split}.parquet", image=as_files([png(i, size=32) for i in range(4)]), label=[0, 1, 2, 3]
        )
    folder = tmp_path / "vit"
    run(vit, monkeypatch, "--output", folder, "--data", tmp_path, "--steps", 2, "--batch-size", 2)
    assert AutoModelForImageClassification.from_pretrained(folder).config.label2id["frog"] == 6
    # What the script trains on is what the saved processor makes.
    images, labels = vit.read(tmp_path / "train.parquet")
    processed = load_preprocessor(folder)(images=[vit.Image.open(vit.io.BytesIO(png(2, size=32)))], return_tensors="pt")
    torch.testing.assert_close(images[2], processed["pixel_values"][0])
    assert labels.tolist() == [0, 1, 2, 3]


def test_augmented_images_are_crops_of_padded_ones(script: Script) -> None:
    vit, image = script("vit"), torch.randn(3, 32, 32)
    padded = torch.nn.functional.pad(image, (4,) * 4)
    crops = [padded[:, y : y + 32, x : x + 32] for y in range(9) for x in range(9)]
    known = [*crops, *(crop.flip(-1) for crop in crops)]
    found = vit.augment(image.expand(20, -1, -1, -1), np.random.default_rng(0))
    assert all(any(torch.equal(one, crop) for crop in known) for one in found)
    assert not all(torch.equal(one, found[0]) for one in found)


def test_sound(script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for split in ("train", "test"):
        files = as_files([wav(tone(i, 2400)) for i in range(4)])
        write_parquet(tmp_path / f"{split}.parquet", audio=files, label=[0, 1, 2, 3])
    folder = tmp_path / "speech"
    run(script("speech"), monkeypatch, "--output", folder, "--data", tmp_path, "--steps", 2, "--batch-size", 2)
    assert AutoModelForAudioClassification.from_pretrained(folder).config.id2label[7] == "seven"
    assert (folder / "metric.txt").read_text().startswith("accuracy ")


def test_augmented_sound_starts_later(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    speech = script("speech")
    monkeypatch.setattr(speech, "MASKED_BANDS", 0)
    monkeypatch.setattr(speech, "MASKED_FRAMES", 0)
    features = torch.full((30, speech.FRAMES, speech.BANDS), -1.0)
    features[:, :20] = torch.randn(20, speech.BANDS)
    augmented = speech.augment(features, -1.0, np.random.default_rng(0))
    starts = [int((one != -1).any(1).nonzero().min()) for one in augmented]
    assert set(starts) == set(range(speech.SHIFT + 1))
    for one, start in zip(augmented, starts, strict=True):
        assert torch.equal(one.roll(-start, 0), features[0])
