"""Recordings are decoded, resampled, and become what the model's feature extractor makes of them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import ASTFeatureExtractor, Wav2Vec2FeatureExtractor, WhisperFeatureExtractor

from inhibitor_transformers.tasks.modalities import AudioExamples, load_audio
from inhibitor_transformers.tasks.modalities.audio import Recording, decode_wav, resample
from tests.tasks.modalities.tiny import RATE, as_files, tone, wav, write_parquet


def ast_extractor() -> ASTFeatureExtractor:
    return ASTFeatureExtractor(sampling_rate=RATE, num_mel_bins=8, max_length=16)


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (np.array([0, 16384, -32768], np.int16), [0.0, 0.5, -1.0]),
        (np.array([128, 192, 0], np.uint8), [0.0, 0.5, -1.0]),
        (np.array([0, 2**30, -(2**31)], np.int32), [0.0, 0.5, -1.0]),
        (np.array([0, 0.5, -1], np.float32), [0.0, 0.5, -1.0]),
        (np.array([[0, 0], [32767, 1], [-32768, 0]], np.int16), [0.0, 0.5, -0.5]),
    ],
    ids=["16 bit", "8 bit", "32 bit", "float", "stereo"],
)
def test_samples_lie_between_minus_one_and_one(samples: np.ndarray, expected: list[float]) -> None:
    recording = decode_wav(wav(samples, 11_025))
    assert recording.rate == 11_025
    assert recording.samples.dtype == np.float32
    assert recording.samples.tolist() == expected


@pytest.mark.parametrize("content", [b"", b"ID3\x04", b"fLaC\0\0\0\x22", b"RIFF\0\0\0\0WAVE"])
def test_what_is_no_wav(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"not a WAV file that can be read .*; convert recordings to WAV"):
        decode_wav(content)


def test_resampling_keeps_a_tone() -> None:
    time = np.arange(RATE) / RATE
    old = Recording(np.sin(2 * np.pi * 440 * time).astype(np.float32), RATE)
    new = resample(old, 2 * RATE)
    expected = np.sin(2 * np.pi * 440 * np.arange(2 * RATE) / (2 * RATE))
    assert new.shape == (2 * RATE,)
    # SciPy's filter, a Kaiser window with β = 5, passes tones within 53 dB.
    assert np.abs(new - expected)[500:-500].max() < 10 ** (-53 / 20)
    assert resample(old, RATE) is old.samples


def test_a_spectrogram_has_the_length_that_its_extractor_says(tmp_path: Path) -> None:
    write_parquet(
        tmp_path / "train.parquet", audio=as_files([wav(tone(i, 900 + i)) for i in range(3)]), label=[7, 8, 9]
    )
    examples = load_audio(tmp_path, ast_extractor())
    batch = examples.batch([2, 1])
    assert batch["input_values"].shape == (2, 16, 8)
    assert batch["labels"].tolist() == [9, 8]
    alone = ast_extractor()(tone(1, 901) / np.float32(32768), sampling_rate=RATE, return_tensors="pt")["input_values"]
    assert torch.equal(batch["input_values"][1], alone[0])


def test_waveforms_are_padded_to_the_longest() -> None:
    extractor = Wav2Vec2FeatureExtractor(sampling_rate=RATE, return_attention_mask=True)
    batch = AudioExamples([wav(tone(1, 500)), wav(tone(2, 800))], extractor).batch([0, 1])
    assert batch["input_values"].shape == (2, 800)
    assert batch["attention_mask"].sum(1).tolist() == [500, 800]
    assert "labels" not in batch


def test_a_processor_is_used_by_its_feature_extractor_at_its_rate() -> None:
    processor = SimpleNamespace(feature_extractor=WhisperFeatureExtractor(feature_size=80))
    batch = AudioExamples([wav(tone(1))], processor).batch([0])
    assert batch["input_features"].shape == (1, 80, 3000)
    assert float(batch["input_features"][0, :, :15].mean()) > float(batch["input_features"][0, :, 30:].mean())


def test_spoken_digits(shared_data: Path) -> None:
    if not (shared_data / "spoken_digits").is_dir():
        pytest.skip(f"no spoken_digits in {shared_data}")
    digits = load_audio(shared_data / "spoken_digits", ast_extractor(), split="test")
    assert len(digits) == 300
    batch = digits.batch([0, 299])
    assert batch["input_values"].shape == (2, 16, 8)
    assert torch.isfinite(batch["input_values"]).all()
