"""What each part of Whisper's attention costs to convert: word error rates of students of a minute to some minutes.

python experiments/synthetic_speech.py --output runs/synthetic_speech --data ../shared/data/glue/stsb
python experiments/whisper_parts.py runs/teachers/whisper --data runs/synthetic_speech

For self-attention of the encoder, of the decoder, cross-attention, and all of them: the relative error of the attention
outputs after calibration (mean over modules and heads), and the word error rate on the test recordings after
calibration, after aligning attention outputs, and after aligning hidden states and next tokens. No stage reads what was
said: the decoder is aligned on what the teacher hears.
"""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import common
from transformers import PreTrainedModel

from inhibitor_transformers.cli.options import choose_device, quiet
from inhibitor_transformers.distill import Distillation, DistillConfig
from inhibitor_transformers.evaluation.speech import transcribe, word_error_rate
from inhibitor_transformers.models.pretrained import load_as_saved
from inhibitor_transformers.report import Table, markdown_table
from inhibitor_transformers.tasks.modalities import draw, in_batches, load_audio, load_preprocessor
from inhibitor_transformers.tasks.modalities.source import read_split

PARTS = {  # by names of modules
    "encoder self-attention": r"model\.encoder\.layers\.\d+\.self_attn",
    "decoder self-attention": r"model\.decoder\.layers\.\d+\.self_attn",
    "cross-attention": r"model\.decoder\.layers\.\d+\.encoder_attn",
    "all": r"model\.(encoder|decoder)\.layers\.\d+\.(self|encoder)_attn",
}
BATCH = 8  # recordings that are transcribed together


def word_errors(teacher: str, data: Path, count: int) -> Callable[[PreTrainedModel], float]:
    """A function that gives a model's word error rate on some of the test recordings, always the same."""
    processor = load_preprocessor(teacher)
    said, _ = read_split(data, "test", ["text"])
    chosen = draw(load_audio(data, processor, split="test"), count)
    batches = list(in_batches(chosen, BATCH))
    texts = [said[i] for i in chosen.order]
    return lambda model: word_error_rate(transcribe(model, processor.tokenizer, batches), texts)


def stages_of(steps: int, size: int, examples: int) -> list[dict[str, Any]]:
    training = {"max_steps": steps, "examples_per_step": size}
    # With so few recordings in a step, a learning rate of 1e-4 undoes what was aligned.
    hidden = {"max_steps": -(-steps // 2), "logits_weight": 1.0, "learning_rate": 2e-5}
    return [{"calibrate": {"examples": examples}}, {"align_attention": training}, {"align_hidden": training | hidden}]


def measure(
    teacher: str,
    data: Path,
    modules: list[str],
    stages: list[dict[str, Any]],
    score: Callable[[PreTrainedModel], float],
    output: Path,
) -> list[float]:
    """Error after calibration, and the score after each stage; what is in `output` already is not run again."""
    file = output.with_suffix(".json")
    scores: list[float] = json.loads(file.read_text()) if file.exists() else []

    def on_stage(name: str, student: PreTrainedModel) -> None:
        if name != "start":
            scores.append(score(student))
            file.write_text(json.dumps(scores))
            print(f"  {name}: {scores[-1]:.3f}, {time.process_time():.0f} s so far", flush=True)

    convert = {"modules": modules}
    config = DistillConfig(teacher, stages, audio=str(data), student_class="converted", convert=convert)
    runtime = choose_device("auto")
    Distillation(config, output, resume=output.exists(), runtime=runtime, log=lambda _: None).run(on_stage)
    (found,) = output.glob("stages/*/calibration.json")
    return [fmean(map(fmean, json.loads(found.read_text())["relative_error"])), *scores]


def main() -> None:
    parser = common.parser(__doc__, steps=100)
    parser.add_argument("teacher")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--examples", type=int, default=4, help="recordings to calibrate on")
    parser.add_argument("--examples-per-step", type=int, default=2)
    parser.add_argument("--test", type=int, default=48, help="recordings to transcribe")
    parser.add_argument("--output", type=Path, help="folder for the runs, to be kept")
    options = parser.parse_args()
    quiet(options.threads)
    teacher, score = (
        load_as_saved(options.teacher, encoder=False),
        word_errors(options.teacher, options.data, options.test),
    )
    rows = [["none: the teacher", "", f"{score(teacher):.3f}"]]
    print(rows[-1], flush=True)
    stages = stages_of(options.steps, options.examples_per_step, options.examples)
    with tempfile.TemporaryDirectory() as folder:
        for part in options.parts:
            modules = [name for name, _ in teacher.named_modules() if re.fullmatch(PARTS[part], name)]
            output = (options.output or Path(folder)) / part.replace(" ", "-")
            error, *scores = measure(options.teacher, options.data, modules, stages, score, output)
            rows.append([part, f"{error:.3f}", *(f"{s:.3f}" for s in scores)])
            print(rows[-1], flush=True)
    header = [
        "converted",
        "error, calibrated",
        "word error rate, calibrated",
        "attention aligned",
        "hidden states, too",
    ]
    print(markdown_table(Table("What each part of Whisper costs", header, rows)))


if __name__ == "__main__":
    main()
