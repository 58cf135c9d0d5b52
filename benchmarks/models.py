"""Times InhibiDistilBERT against the softmax model of the same size, end to end:

    python benchmarks/models.py [--threads 1 2] [--batches 1 8 32] [--lengths 64 128 256 512] [--seconds 20]
                                [--student DIR --teacher DIR --text FILE] [--output FILE]
                                [--device cuda --dtype bfloat16]

Without a student: DistilBERT's default size with random weights, on random tokens; its fraction of inactive pairs is
then not that of an aligned model. With one: that student and its teacher on real text. The models take turns in one
process, each on full batches and on batches of which half of each row is padding. One thread: CPU seconds of the
thread; more: wall seconds; on a GPU: between events of the device. The tests of the operation run first: on red nothing
is reported; nor is it if a model computes something else than with plain attention (eager softmax, engine `reference`).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from agreement import FLOAT32, HALF, require_plain_outputs
from inputs import half_valid, token_rows
from report import Report, machine, progress
from require_tests import require_passing_tests
from timing import Budget, Summary, Times, clock_name, interleave
from torch import Tensor
from transformers import AutoModel, AutoTokenizer, DistilBertConfig, DistilBertModel, PreTrainedModel

from inhibitor_transformers import InhibiDistilBertModel
from inhibitor_transformers.attention.dispatch import serving_engine

Tokens = Callable[[int, int], Tensor]  # (batch, length) -> ids

OF_ONE = ["softmax seq/s", "inhibitor seq/s", "inhibitor / softmax"]
HEADER = ["batch", "length", *OF_ONE, *(f"half-padded: {column}" for column in OF_ONE), "rounds"]
LEGEND = """
Sequences per second at the fastest call, at the median call in brackets; above 1 the inhibitor model is faster.
"""


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    device = torch.device(options.device)
    require_passing_tests(gpu=device.type != "cpu")
    models, tokens = aligned_pair(options) if options.student else random_pair(options.layers)
    models = {name: model.to(device, getattr(torch, options.dtype)) for name, model in models.items()}
    report = Report(options.output)
    for threads in options.threads if device.type == "cpu" else [1]:
        torch.set_num_threads(threads)
        engine = serving_engine(device)
        where = f"{threads} thread(s)" if device.type == "cpu" else torch.cuda.get_device_name(device)
        counted = clock_name() if device.type == "cpu" else "events of the device"
        report.line(f"\n## Models, {where}\n\n{machine()}, engine {engine}, {options.dtype}, {counted}.")
        report.line(" / ".join(f"{name}: {describe(model)}" for name, model in models.items()) + ".")
        report.line(LEGEND.rstrip())
        report.header(HEADER)
        first = tokens(1, options.lengths[0]).to(device)
        require_plain_outputs(models, first, FLOAT32 if options.dtype == "float32" else HALF)
        for batch in options.batches:
            for length in options.lengths:
                progress(f"batch {batch}, length {length}")
                times = measure(models, tokens(batch, length).to(device), Budget(options.rounds, options.seconds))
                report.row(cells(times, batch, length))


def random_pair(layers: int) -> tuple[dict[str, PreTrainedModel], Tokens]:
    """DistilBERT's default configuration with SDPA, and the inhibitor model made from it."""
    torch.manual_seed(0)
    teacher = DistilBertModel(DistilBertConfig(n_layers=layers, attn_implementation="sdpa")).eval()
    models = {"softmax": teacher, "inhibitor": InhibiDistilBertModel.from_teacher(teacher).eval()}
    return models, lambda batch, length: torch.randint(1000, teacher.config.vocab_size, (batch, length))


def aligned_pair(options: argparse.Namespace) -> tuple[dict[str, PreTrainedModel], Tokens]:
    """A student and its teacher with SDPA, without a pooler: the student has none."""
    teacher = AutoModel.from_pretrained(options.teacher, attn_implementation="sdpa").eval()
    teacher.pooler = None
    student = InhibiDistilBertModel.from_pretrained(options.student).eval()
    tokenizer = AutoTokenizer.from_pretrained(options.student)
    return {"softmax": teacher, "inhibitor": student}, partial(token_rows, options.text, tokenizer)


def measure(models: dict[str, PreTrainedModel], ids: Tensor, budget: Budget) -> Times:
    """Sides `softmax`, `inhibitor`, and both with ` half`: padded."""
    full, half = torch.ones_like(ids), half_valid(*ids.shape).long().to(ids.device)
    masks = {"": full, " half": half}
    sides = {
        name + padding: partial(torch.inference_mode()(model), input_ids=ids, attention_mask=mask)
        for padding, mask in masks.items()
        for name, model in models.items()
    }
    return interleave(sides, budget, ids.device)


def cells(times: Times, batch: int, length: int) -> list[str]:
    row = [str(batch), str(length)]
    for padding in ("", " half"):
        softmax, inhibitor = times[f"softmax{padding}"], times[f"inhibitor{padding}"]
        row += [per_second(softmax, batch), per_second(inhibitor, batch)]
        row.append(f"{softmax.minimum / inhibitor.minimum:.3f} ({softmax.median / inhibitor.median:.3f})")
    return [*row, str(times["softmax"].rounds)]


def per_second(summary: Summary, batch: int) -> str:
    return f"{batch / summary.minimum:.2f} ({batch / summary.median:.2f})"


def describe(model: PreTrainedModel) -> str:
    config, parameters = model.config, sum(p.numel() for p in model.parameters())
    sizes = f"{config.num_hidden_layers} layers, {config.hidden_size} wide, {config.num_attention_heads} heads"
    return f"{type(model).__name__}, {sizes}, {parameters / 1e6:.1f} M parameters"


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--lengths", type=int, nargs="+", default=[64, 128, 256, 512])
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, …")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"], help="of the weights")
    parser.add_argument("--layers", type=int, default=6, help="of the random models")
    parser.add_argument("--seconds", type=float, default=20.0, help="for each row, after the rounds")
    parser.add_argument("--rounds", type=int, default=3, help="for each row at least")
    parser.add_argument("--student", help="folder of an aligned student")
    parser.add_argument("--teacher", help="folder of its teacher")
    parser.add_argument("--text", type=Path, help="what they read: plain text, or Parquet with a column `text`")
    parser.add_argument("--output", type=Path, help="a new file for the Markdown")
    options = parser.parse_args(arguments)
    if len({bool(options.student), bool(options.teacher), bool(options.text)}) != 1:
        parser.error("--student, --teacher and --text go together")
    return options


if __name__ == "__main__":
    main()
