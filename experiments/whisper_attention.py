"""What Whisper's attention is like, part by part, and which heads calibration leaves far from it.

python experiments/whisper_parts.py runs/teachers/whisper --data runs/synthetic_speech --output runs/whisper_parts
python experiments/whisper_attention.py runs/teachers/whisper runs/whisper_parts --data runs/synthetic_speech

Of the teacher: how many keys a query attends to (e to the entropy), how much of its attention the most attended key
of a recording gets, and the frames behind the end of the recording, which are silent and alike. Of the student that
was calibrated alone: how many keys' worth of values pass, how much of that is silence, and the relative error of the
attention outputs, of the best and the worst head. Means over modules, heads and queries (of the encoder's, those of
speech) on recordings of the test. The second table has, over the heads of a part, the correlation of the error with
what the teacher's attention is like.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import common
import torch
from torch import Tensor
from transformers import PreTrainedModel
from whisper_parts import PARTS

from inhibitor_transformers.cli.options import quiet
from inhibitor_transformers.evaluation.passing import record_pairs
from inhibitor_transformers.models.pretrained import load_as_saved
from inhibitor_transformers.report import Table, markdown_table
from inhibitor_transformers.tasks.modalities import AudioExamples, load_audio, load_preprocessor
from inhibitor_transformers.tasks.modalities.audio import decode_wav
from inhibitor_transformers.tasks.modalities.inputs import forward_inputs

FRAMES = 50  # of the encoder, in a second
QUERIES = 64  # of a call at most: the encoder has 1,500


class Attention(NamedTuple):
    """Of each head, (H,). keys: attended to. most: by the most attended key. silence: fractions; NaN among tokens."""

    keys: Tensor
    most: Tensor
    silence: Tensor
    passing: Tensor
    passing_silence: Tensor


def attentions(student: PreTrainedModel, teacher: PreTrainedModel, recordings: AudioExamples) -> Iterator[Attention]:
    """Of every converted module in turn, for each recording."""
    for i, file in enumerate(recordings.files):
        recording = decode_wav(file)
        spoken = int(len(recording.samples) / recording.rate * FRAMES) + 1
        inputs = forward_inputs(teacher, recordings.batch([i]))
        inputs.pop("use_cache")
        for pair in record_pairs(student, teacher, inputs):
            queries = slice(0, spoken, -(-min(spoken, pair.z.shape[2]) // QUERIES))
            yield describe(pair.probabilities[0, :, queries], pair.passing(queries)[0], spoken)


def describe(probabilities: Tensor, passing: Tensor, spoken: int) -> Attention:
    """Of (H, Nq, Nk) probabilities of the teacher, and fractions that pass in the student."""
    keys, passed = torch.special.entr(probabilities).sum(-1).exp(), passing.sum(-1)
    silence, passing_silence = (x[..., spoken:].sum(-1) for x in (probabilities, passing))
    if probabilities.shape[-1] <= spoken:
        silence, passing_silence = (torch.full_like(x, torch.nan) for x in (silence, passing_silence))
    fraction = passing_silence / passed.clamp_min(1e-9)
    return Attention(keys.mean(1), probabilities.mean(1).amax(-1), silence.mean(1), passed.mean(1), fraction.mean(1))


def correlation(a: Tensor, b: Tensor) -> str:
    return shown(float(torch.corrcoef(torch.stack([a, b]))[0, 1]))


def shown(number: float, form: str = ".2f") -> str:
    return "" if number != number else f"{number:{form}}"  # NaN


@torch.no_grad()
def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("teacher")
    parser.add_argument("runs", type=Path, help="the --output of whisper_parts.py")
    parser.add_argument("--test", type=int, default=4, help="recordings")
    options = parser.parse_args()
    quiet(options.threads)
    teacher = load_as_saved(options.teacher, encoder=False)
    recordings = load_audio(options.data, load_preprocessor(options.teacher), split="test")
    recordings = AudioExamples(recordings.files[: options.test], recordings.extractor)
    rows, correlations = [], []
    for part in list(PARTS)[:-1]:
        stage = options.runs / part.replace(" ", "-") / "stages" / "1-calibrate"
        errors = torch.tensor(json.loads((stage / "calibration.json").read_text())["relative_error"])
        calls = list(attentions(load_as_saved(stage / "student", encoder=False), teacher, recordings))
        heads = Attention(
            *(torch.stack(x).unflatten(0, (-1, len(errors))).mean(0).flatten() for x in zip(*calls, strict=True))
        )
        means = [
            shown(float(x.mean()), form) for x, form in zip(heads, (".0f", ".2f", ".2f", ".0f", ".2f"), strict=True)
        ]
        rows.append([part, *means, shown(float(errors.mean())), f"{errors.min():.2f} … {errors.max():.2f}"])
        of_teacher = (heads.keys.log(), heads.most, heads.silence)
        correlations.append([part, *(correlation(errors.flatten(), x) for x in of_teacher)])
    header = ["part", "keys attended to", "the most attended", "silence", "keys that pass", "silence", "error", "heads"]
    print(markdown_table(Table("Whisper's attention", header, rows)))
    header = ["error of heads with", "logarithm of the keys", "the most attended", "silence"]
    print(markdown_table(Table("Correlations", header, correlations)))


if __name__ == "__main__":
    main()
