"""What Whisper's attention is like, part by part, and what calibration makes of it: why a part is hard to convert.

python experiments/whisper_parts.py runs/teachers/whisper --data runs/synthetic_speech --output runs/whisper_parts
python experiments/whisper_attention.py runs/teachers/whisper runs/whisper_parts --data runs/synthetic_speech

Of the teacher: how many keys a query attends to (e to the entropy), how much of its attention the most attended key
of a recording gets, and the frames behind the end of the recording, which are silent and alike. Of the student that
was calibrated alone: the relative error of the attention outputs, of the best and the worst head; how many keys' worth
of values pass; and how much of that is silence. Means over modules, heads and queries (of the encoder's, those of
speech), on recordings of the test.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
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
    """Means of one module's call. keys: attended to. most: by the most attended key. silence: fractions."""

    keys: float
    most: float
    silence: float
    passing: float
    passing_silence: float


def attentions(student: PreTrainedModel, teacher: PreTrainedModel, recordings: AudioExamples) -> Iterator[Attention]:
    """Of every converted module, for each recording."""
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
    entropy = torch.special.entr(probabilities).sum(-1)
    passed = passing.sum(-1)
    return Attention(
        float(entropy.exp().mean()),
        float(probabilities.mean(1).amax(-1).mean()),
        float(probabilities[..., spoken:].sum(-1).mean()),
        float(passed.mean()),
        float((passing[..., spoken:].sum(-1) / passed.clamp_min(1e-9)).mean()),
    )


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
    recordings.files = recordings.files[: options.test]
    rows = []
    for part in list(PARTS)[:-1]:
        stage = options.runs / part.replace(" ", "-") / "stages" / "1-calibrate"
        student = load_as_saved(stage / "student", encoder=False)
        errors = json.loads((stage / "calibration.json").read_text())["relative_error"]
        heads = [error for module in errors for error in module]
        found = [fmean(values) for values in zip(*attentions(student, teacher, recordings), strict=True)]
        keys, most, silence, passing, passing_silence = found
        of_teacher = [f"{keys:.0f}", f"{most:.2f}", f"{silence:.2f}"]
        of_student = [f"{fmean(heads):.2f}", f"{min(heads):.2f} … {max(heads):.2f}"]
        rows.append([part, *of_teacher, *of_student, f"{passing:.0f}", f"{passing_silence:.2f}"])
        print(rows[-1], flush=True)
    header = ["part", "keys attended to", "by the most attended", "of silence"]
    header += ["error", "of heads", "keys that pass", "of these silence"]
    print(markdown_table(Table("Whisper's attention", header, rows)))


if __name__ == "__main__":
    main()
