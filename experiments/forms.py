"""What each part of a converted model's attention is worth, before training and after a minute of it.

python experiments/forms.py runs/teachers/rxnmapper --data ../shared/data/reactions --lengths 128 256
python experiments/forms.py runs/teachers/llama --data ../shared/data/wikitext-2 --lengths 256 --examples 128
python experiments/forms.py runs/teachers/vit --data ../shared/data/cifar10 --kind images --examples 1000

The relative error of the attention outputs after calibration (mean over modules and heads), and what the model's own
head is for: after calibration, and after aligning attention outputs.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import common
from transformers import PreTrainedModel

from inhibitor_transformers.cli.options import quiet
from inhibitor_transformers.distill import Distillation, DistillConfig
from inhibitor_transformers.evaluation.head_score import Measure, score_head
from inhibitor_transformers.models.pretrained import load_as_saved
from inhibitor_transformers.report import Table, markdown_table
from inhibitor_transformers.tasks.modalities import load_preprocessor

PAPER = {"center": "mean", "key_norm": False, "normalize": False}
FORMS: dict[str, dict[str, Any]] = {
    "the paper's: centered by the mean": PAPER,
    "and less a part of the keys' size": PAPER | {"key_norm": True},
    "centered by the least score instead": PAPER | {"key_norm": True, "center": "min"},
    "divided by the keys that pass (default)": {},
    "the default without the keys' size": {"key_norm": False},
    "the default, not centered": {"center": "none"},
    "the default, features of queries scaled": {"query_scale": True},
    "softmax of distances (EcoTransformer's)": {"form": "l1_softmax"},
}


def measure(
    teacher: str,
    data: dict[str, Any],
    form: dict[str, Any],
    stages: list[dict[str, Any]],
    score: Callable[..., Measure],
) -> list[float]:
    """Error after calibration, and the head's measure after each stage."""
    scores: list[float] = []

    def on_stage(name: str, student: PreTrainedModel) -> None:
        if name != "start":
            scores.append(score(student).value)

    config = DistillConfig(teacher, stages, **data, student_class="converted", convert=form, min_words=1)
    with tempfile.TemporaryDirectory() as folder:
        run = Distillation(config, Path(folder) / "run", log=lambda _: None)
        run.run(on_stage)
        (found,) = Path(folder).glob("run/**/calibration.json")
        error = fmean(map(fmean, json.loads(found.read_text())["relative_error"]))
    return [error, *scores]


def main() -> None:
    parser = common.parser(__doc__, steps=60)
    parser.add_argument("teacher")
    parser.add_argument("--kind", choices=["text", "images", "audio"], default="text", help="of the data")
    parser.add_argument("--lengths", type=int, nargs="+", default=[256], help="of texts, in tokens")
    parser.add_argument("--examples", type=int, help="to measure with; all by default")
    parser.add_argument("--split", default="validation", help="to measure with")
    options = parser.parse_args()
    quiet(options.threads)
    of_texts = options.kind == "text"
    sizes: dict[str, Any] = {"lengths": options.lengths} if of_texts else {}
    stages = [
        {"calibrate": sizes | ({"tokens_per_length": 1024} if of_texts else {})},
        {"align_attention": sizes | {"max_steps": options.steps} | ({"tokens_per_step": 1024} if of_texts else {})},
    ]
    data = {options.kind: [str(options.data)] if of_texts else str(options.data)}
    teacher, preprocessor = load_as_saved(options.teacher, encoder=False), load_preprocessor(options.teacher)
    score = partial(
        score_head,
        preprocessor=preprocessor,
        source=options.data,
        split=options.split,
        max_examples=options.examples,
    )
    theirs = score(teacher)
    rows = [["teacher", "", "", f"{theirs.value:.4g}"]]
    for name, form in FORMS.items():
        error, calibrated, aligned = measure(options.teacher, data, form, stages, score)
        rows.append([name, f"{error:.3f}", f"{calibrated:.4g}", f"{aligned:.4g}"])
        print(rows[-1], flush=True)
    title = f"What each part is worth ({Path(options.teacher).name})"
    header = ["attention", "error, calibrated", f"{theirs.name}, calibrated", f"after {options.steps} steps"]
    print(markdown_table(Table(title, header, rows)))


if __name__ == "__main__":
    main()
