"""Runs one row of ablations.yaml, or prints the table of those that are there. Needs a folder of data and `minilm`.

For each row: relative errors of the last hidden states over their variance (all tokens; the first token), STS-B
zero-shot, and agreement with the teacher by length, on texts that no stage saw.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import common
import torch
from transformers import AutoModel, PreTrainedModel

from inhibitor_transformers.cli.options import quiet, resolve_model
from inhibitor_transformers.common.output_dir import is_used
from inhibitor_transformers.common.settings import build, load_yaml, override
from inhibitor_transformers.distill import Distillation, DistillConfig
from inhibitor_transformers.distill.data import StepBatches, token_windows
from inhibitor_transformers.distill.variances import first_tokens
from inhibitor_transformers.evaluation.similarity import agreement, sts_spearman
from inhibitor_transformers.models.pretrained import load_tokenizer
from inhibitor_transformers.report import Table, markdown_table
from inhibitor_transformers.tasks import load_task, load_texts, split_held_out

SETTINGS = load_yaml(Path(__file__).parent / "ablations.yaml")
LENGTHS = (32, 64, 128, 256, 512)


def settings_of(row: str, *, bf16: bool) -> dict[str, Any]:
    """The recipe, shorter, with the row's one change."""
    change = SETTINGS["rows"][row]
    settings = load_yaml(SETTINGS["recipe"])
    settings["teacher"] = resolve_model(settings["teacher"])
    precision = [f"{stage}.bf16={bf16}" for stage in ("align_attention", "align_hidden")]
    settings = override(settings, SETTINGS["shorter"] + precision + change.get("set", []))
    if only := change.get("only"):
        settings["stages"] = [stage for stage in settings["stages"] if set(stage) <= set(only)]
    return settings


def measure(student: PreTrainedModel, teacher_source: str, data: Path) -> dict[str, Any]:
    """Everything that the table shows of a student."""
    teacher, tokenizer = AutoModel.from_pretrained(teacher_source).eval(), load_tokenizer(teacher_source)
    texts = split_held_out(load_texts(data / "imdb", seed=0))[1]
    pairs = load_task("stsb", data).evaluation["validation"][:]
    return {
        **hidden_errors(student, teacher, tokenizer, texts),
        "sts": sts_spearman(student, tokenizer, pairs, max_length=128),
        "agreement": agreement(student, teacher, tokenizer, texts, LENGTHS),
    }


@torch.no_grad()
def hidden_errors(student: PreTrainedModel, teacher: PreTrainedModel, tokenizer: Any, texts: list[str]) -> dict:
    """Squared error of the last hidden states over the teacher's variance: of all tokens, and of the first alone."""
    windows = token_windows(texts, tokenizer, [64], seed=1, max_tokens=16_384)
    batches = StepBatches(windows, tokenizer, steps=8, tokens_per_step=2048, lengths=[64])
    ours, theirs, first = [], [], []
    for batch in (batches[i] for i in range(len(batches))):
        valid = batch["attention_mask"].bool()
        inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
        a, b = student(**inputs).last_hidden_state, teacher(**inputs).last_hidden_state
        ours.append(a[valid])
        theirs.append(b[valid])
        first.append(torch.stack([first_tokens(a, valid)[:, 0], first_tokens(b, valid)[:, 0]]))
    every, alone = torch.stack([torch.cat(ours), torch.cat(theirs)]), torch.cat(first, dim=1)
    return {"error": common.relative_error(*every), "first error": common.relative_error(*alone)}


def folder_of(row: str, output: Path) -> Path:
    return output / row.replace(" ", "-").replace("/", "-")


def run(row: str, output: Path, data: Path, *, bf16: bool) -> None:
    folder = folder_of(row, output)
    settings, started = settings_of(row, bf16=bf16), time.process_time()
    settings["text"] = [str(data / Path(source).name) for source in settings["text"]]
    config = build(DistillConfig, settings, where=row)
    student = Distillation(config, folder, resume=is_used(folder), runtime={"use_cpu": True}).run()
    record = {"processor seconds": time.process_time() - started, **measure(student.eval(), settings["teacher"], data)}
    (folder / "measured.json").write_text(json.dumps(record, indent=2), encoding="utf-8")


def table(output: Path) -> Table:
    header = ["", "error", "first token", "STS-B", *map(str, LENGTHS), "processor min"]
    rows = []
    for row in SETTINGS["rows"]:
        file = folder_of(row, output) / "measured.json"
        if file.exists():
            r = json.loads(file.read_text(encoding="utf-8"))
            near = [f"{r['agreement'][str(n)]:.3f}" for n in LENGTHS]
            minutes = f"{r['processor seconds'] / 60:.0f}"
            rows.append([row, f"{r['error']:.3f}", f"{r['first error']:.3f}", f"{r['sts']:.4f}", *near, minutes])
    return Table("Ablations", header, rows)


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("rows", nargs="*", help=f"of: {', '.join(SETTINGS['rows'])}")
    parser.add_argument("--table", action="store_true", help="print the table")
    parser.add_argument(
        "--bf16", action=argparse.BooleanOptionalAction, default=True, help="or float32, in another --output"
    )
    parser.add_argument("--output", type=Path, default=Path("runs/ablations"))
    given = parser.parse_args()
    if unknown := [row for row in given.rows if row not in SETTINGS["rows"]]:
        parser.error(f"unknown rows {unknown}; known: {list(SETTINGS['rows'])}")
    quiet(given.threads)
    for row in given.rows:
        run(row, given.output, given.data, bf16=given.bf16)
    if given.table:
        print(markdown_table(table(given.output)))


if __name__ == "__main__":
    main()
