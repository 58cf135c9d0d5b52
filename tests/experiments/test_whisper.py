"""What is measured of Whisper: which modules are a part, which sentences are said, what attention is like."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from scipy.io import wavfile

from inhibitor_transformers.models import convert
from inhibitor_transformers.tasks.modalities import AudioExamples
from inhibitor_transformers.tasks.modalities.example import example_batch
from tests.distill.any_model import audio_folder, make, preprocessor_for
from tests.scripts import Script


def test_every_module_is_of_one_part(script: Script) -> None:
    parts, model = script("whisper_parts").PARTS, make("whisper")
    student = convert(model, example_batch(model, preprocessor_for("whisper")))
    for site in student.config.record.sites:
        assert sum(bool(re.fullmatch(pattern, site.name)) for pattern in parts.values()) == 2, "its own and all"
    for pattern in parts.values():
        assert any(re.fullmatch(pattern, site.name) for site in student.config.record.sites)


def test_sentences_are_plain_and_in_one_split(script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    speech = script("synthetic_speech")
    monkeypatch.setattr(speech, "SPLITS", {"train": ("train", 20), "test": ("validation", 10)})
    said = [f"A man is {verb} a {thing}." for verb in ("slicing", "eating", "buying") for thing in "abcdefghij"]
    odd = ["Too short.", "He paid 20 pounds for it.", 'He said "no" to all of them.']
    for split in ("train", "validation"):
        pyarrow.parquet.write_table(pyarrow.table({"sentence1": said + odd}), tmp_path / f"{split}.parquet")
    chosen = speech.choose(tmp_path, seed=0)
    assert [len(sentences) for sentences in chosen.values()] == [20, 10]
    assert {sentence for sentences in chosen.values() for sentence in sentences} == set(said)
    assert chosen == speech.choose(tmp_path, seed=0)


def test_attention_to_all_keys_alike(script: Script) -> None:
    describe = script("whisper_attention").describe
    found = describe(torch.full((2, 3, 10), 0.1), torch.full((2, 3, 10), 0.5), spoken=4)
    assert [x.tolist() for x in found] == [pytest.approx([x, x]) for x in (10, 0.1, 0.6, 5, 0.6)]
    among_tokens = describe(torch.full((2, 3, 10), 0.1), torch.full((2, 3, 10), 0.5), spoken=30)
    assert among_tokens.silence.isnan().all()


def test_a_part_is_measured_after_each_stage(script: Script, tmp_path: Path) -> None:
    parts = script("whisper_parts")
    make("whisper").save_pretrained(tmp_path / "teacher")
    preprocessor_for("whisper").save_pretrained(tmp_path / "teacher")
    stages, scores = parts.stages_of(2, 4, 2), iter((3.0, 2.0, 1.0))
    modules = ["model.decoder.layers.0.encoder_attn"]
    teacher, data = str(tmp_path / "teacher"), Path(audio_folder(tmp_path / "audio"))
    error, *found = parts.measure(teacher, data, modules, stages, lambda _: next(scores), tmp_path / "run")
    assert 0 < error <= 1
    assert found == [3, 2, 1]


def test_attention_of_every_converted_module_is_described(script: Script) -> None:
    teacher, file = make("whisper"), io.BytesIO()
    wavfile.write(file, 16000, (3000 * np.random.default_rng(0).standard_normal(4800)).astype(np.int16))
    extractor = preprocessor_for("whisper")
    student = convert(teacher, example_batch(teacher, extractor), modules=["model.encoder"])
    recordings = AudioExamples([file.getvalue()], extractor)
    found = list(script("whisper_attention").attentions(student, teacher, recordings))
    assert len(found) == 2
    assert all((each.keys <= 50).all() and (each.silence < 1).all() and len(each.keys) == 4 for each in found)
