"""What a teacher in bfloat16 saves, and how far its hidden states move.

python experiments/teacher_precision.py --threads 2

On batches as the last stage of configs/minilm.yaml draws them: milliseconds a batch (median), and the squared change of
each layer's hidden states over their variance.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import median

import common
import torch
from torch import Tensor

from inhibitor_transformers.distill.data import StepBatches, token_windows
from inhibitor_transformers.distill.teacher import Teacher
from inhibitor_transformers.measure.report import Table, markdown_table
from inhibitor_transformers.tasks import load_texts

LENGTHS = [32, 64, 128, 256, 512]


def compare(teacher: Teacher, batches: Sequence[dict[str, Tensor]]) -> tuple[list[float], dict[str, list[float]]]:
    """Change of the hidden states by layer, and seconds of each batch in float32 and in bfloat16."""
    seconds: dict[str, list[float]] = {"float32": [], "bfloat16": []}
    states: dict[str, list[list[Tensor]]] = {name: [] for name in seconds}
    for batch in batches:
        valid = batch["attention_mask"].bool()
        for name in seconds:
            started = time.perf_counter()
            with torch.autocast("cpu", torch.bfloat16, enabled=name == "bfloat16"):
                hidden = teacher(batch, hidden=True).hidden
            seconds[name].append(time.perf_counter() - started)
            states[name].append([layer[valid].float() for layer in hidden[1:]])
    ours, theirs = ([torch.cat(layer) for layer in zip(*states[n], strict=True)] for n in ("bfloat16", "float32"))
    return [common.relative_error(a, b) for a, b in zip(ours, theirs, strict=True)], seconds


def main() -> None:
    given = common.parser(__doc__, steps=24).parse_args()
    tokenizer, teacher = common.minilm(given.threads)
    texts = load_texts([given.data / "glue", given.data / "imdb"], max_texts=4000)
    windows = token_windows(texts, tokenizer, LENGTHS, max_tokens=given.steps * 2048)
    batches = StepBatches(windows, tokenizer, steps=given.steps, tokens_per_step=2048, lengths=LENGTHS)
    moved, seconds = compare(teacher, [batches[i] for i in range(len(batches))])
    times = [f"{1000 * median(seconds[name]):.0f}" for name in seconds]
    header = [*(f"ms in {name}" for name in seconds), *(f"change in layer {i}" for i in range(len(moved)))]
    print(markdown_table(Table("The teacher", header, [[*times, *(f"{x:.1e}" for x in moved)]])))


if __name__ == "__main__":
    main()
