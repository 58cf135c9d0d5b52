"""Recordings as `input_values` or `input_features`, through the model's feature extractor."""

from __future__ import annotations

import inspect
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .base import Batch, FileExamples
from .preprocessor import Preprocessor, audio_part
from .source import Part, read_files

AUDIO_COLUMNS = ("audio", "file", "speech")
Waveform = np.ndarray[Any, np.dtype[np.float32]]


class Recording(NamedTuple):
    """One channel of samples from −1 to 1, (samples,) float32, and how many there are in a second."""

    samples: Waveform
    rate: int


class AudioExamples(FileExamples):
    """WAV files, resampled to the rate that the feature extractor asks for.

    inputs: what the feature extractor gives (`input_values` or `input_features` float32, a mask where it makes one).
    """

    def __init__(self, files: Sequence[bytes], extractor: Preprocessor, labels: Sequence[int] | None = None) -> None:
        super().__init__(files, labels)
        self.extractor = audio_part(extractor)
        # Extractors that pad to a fixed length say so by their default; the others have to be asked.
        padding = inspect.signature(type(self.extractor).__call__).parameters.get("padding")
        self._options = {"padding": True} if padding is not None and padding.default is False else {}

    def inputs(self, files: Sequence[bytes]) -> Batch:
        rate = self.extractor.sampling_rate
        waveforms = [resample(decode_wav(file), rate) for file in files]
        return dict(self.extractor(waveforms, sampling_rate=rate, return_tensors="pt", **self._options))


def load_audio(
    source: str | Path,
    extractor: Preprocessor,
    *,
    split: str = "train",
    part: Part = "all",
    label2id: dict[str, int] | None = None,
) -> AudioExamples:
    """The recordings of a split, in its order; arguments and errors as in `read_files`."""
    files, labels = read_files(source, split, AUDIO_COLUMNS, part, label2id)
    return AudioExamples(files, extractor, labels)


def decode_wav(content: bytes) -> Recording:
    """The samples of a WAV file, channels averaged. Raises ValueError for anything else, MP3 and FLAC included."""
    from scipy.io import wavfile

    try:
        rate, samples = wavfile.read(io.BytesIO(content))
    except Exception as error:  # of damaged files, SciPy's reader raises whatever its lines happen to
        reason = error if isinstance(error, ValueError) else type(error).__name__
        raise ValueError(f"not a WAV file that can be read ({reason}); convert recordings to WAV") from error
    if samples.dtype == np.uint8:
        scaled = samples.astype(np.float32) / 128 - 1
    elif np.issubdtype(samples.dtype, np.integer):
        scaled = samples.astype(np.float32) / -float(np.iinfo(samples.dtype).min)
    else:
        scaled = samples.astype(np.float32)
    return Recording(scaled if scaled.ndim == 1 else scaled.mean(axis=1), int(rate))


def resample(recording: Recording, rate: int) -> Waveform:
    """The samples at another rate, (samples · rate / old rate,) float32: polyphase filtering, no aliases."""
    from scipy.signal import resample_poly

    if recording.rate == rate:
        return recording.samples
    common = math.gcd(recording.rate, rate)
    return resample_poly(recording.samples, rate // common, recording.rate // common).astype(np.float32)
