"""Times converted models against their softmax originals, whole: generation with a cache, a prefill, images.

    python benchmarks/converted.py [--threads 1 2] [--seconds 30] [--output FILE]
                                   [--pair NAME TEACHER STUDENT …] [--cases generate prefill images]

NAME is gpt2, llama or vit: that pair of folders takes the place of random weights. Sizes: those of the small teachers
(6 layers), and of GPT-2 (12 × 768). Originals run SDPA. The models take turns in one process; a converted model must
first give what it gives with the reference in place of its engine, or nothing is reported. One thread: CPU seconds of
the thread; more: wall seconds. Peak memory is of a fresh process for each side.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from agreement import FLOAT32, plainly, require_close
from memory import allocation_counter, peak_of
from report import Report, machine, progress
from require_tests import require_passing_tests
from timing import Budget, Times, clock_name, interleave
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    ViTConfig,
    ViTForImageClassification,
)

from inhibitor_transformers import convert

PROMPT, NEW, LONG, VOCABULARY = 32, 128, 2048, 4096
Models = dict[str, PreTrainedModel]  # "softmax" and "inhibitor"


def gpt2(layers: int = 6, width: int = 256, heads: int = 4) -> PreTrainedModel:
    """As the teacher of experiments/teachers/causal_lm.py."""
    ids = {"vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": 0}
    return GPT2LMHeadModel(GPT2Config(**ids, n_positions=LONG, n_embd=width, n_layer=layers, n_head=heads))


def llama() -> PreTrainedModel:
    """As the teacher of experiments/teachers/causal_lm.py."""
    sizes = {"hidden_size": 256, "num_hidden_layers": 6, "intermediate_size": 768, "max_position_embeddings": LONG}
    config = LlamaConfig(vocab_size=VOCABULARY, num_attention_heads=4, num_key_value_heads=2, **sizes)
    return LlamaForCausalLM(config)


def vit() -> PreTrainedModel:
    """As the teacher of experiments/teachers/vit.py."""
    sizes = {"hidden_size": 192, "num_hidden_layers": 6, "num_attention_heads": 3, "intermediate_size": 768}
    return ViTForImageClassification(ViTConfig(image_size=32, patch_size=4, **sizes))


class Case(NamedTuple):
    """What is timed: a kind of call of a model, at a batch size."""

    title: str
    model: str
    kind: str
    batch: int


BUILD: dict[str, Callable[[], PreTrainedModel]] = {
    "gpt2": gpt2,
    "llama": llama,
    "gpt2 12 × 768": partial(gpt2, 12, 768, 12),
    "vit": vit,
    "vit 12 × 768": lambda: ViTForImageClassification(ViTConfig()),
}
CASES = (
    *(Case(f"generate {NEW} tokens", m, "generate", b) for m in ("gpt2", "llama", "gpt2 12 × 768") for b in (1, 8)),
    *(Case(f"prefill of {LONG} tokens", model, "prefill", 1) for model in ("llama", "gpt2 12 × 768")),
    *(Case("images", "vit", "images", batch) for batch in (1, 8, 32)),
    *(Case("images", "vit 12 × 768", "images", batch) for batch in (1, 8)),
)


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    if options.peak:
        return print_peak(*options.peak, pairs=dict_of(options.pair))
    require_passing_tests()
    report, pairs = Report(options.output), dict_of(options.pair)
    for threads in options.threads:
        torch.set_num_threads(threads)
        report.line(f"\n## Converted models, {threads} thread(s)\n\n{machine()}, float32, {clock_name()}.")
        report.line("Minima, medians in brackets; peak memory of a process that makes one call, MiB.")
        columns = ["softmax ms", "inhibitor ms", "inhibitor / softmax", "softmax MiB", "inhibitor MiB", "rounds"]
        report.header(["call", "model", "batch", *columns])
        for name in dict.fromkeys(case.model for case in CASES):
            cases = [case for case in CASES if case.model == name and case.kind in options.cases]
            models = load(name, pairs) if cases else {}
            for case in cases:
                progress(f"{case.title}, {name}, batch {case.batch}")
                report.row(cells(case, measure(models, case, Budget(options.rounds, options.seconds)), options.pair))


def dict_of(pairs: list[list[str]]) -> dict[str, tuple[str, str]]:
    return {name: (teacher, student) for name, teacher, student in pairs}


def load(name: str, pairs: dict[str, tuple[str, str]]) -> Models:
    """Both models; of random weights, whose scalars are set so that some keys pass and some do not."""
    if name in pairs:
        auto = AutoModelForImageClassification if name == "vit" else AutoModelForCausalLM
        teacher, student = pairs[name]
        kept = auto.from_pretrained(teacher, attn_implementation="sdpa").eval()
        return {"softmax": kept, "inhibitor": auto.from_pretrained(student).eval()}
    torch.manual_seed(0)
    original = BUILD[name]().eval()
    original.set_attn_implementation("sdpa")
    student = convert(
        original, inputs_of(original, "images" if name.startswith("vit") else "prefill", 2, length=9)
    ).eval()
    with torch.no_grad():
        for parameter_name, parameter in student.named_parameters():
            for end, value in (("delta", -0.3), ("key_norm", 0.75), ("unit", 0.5)):
                if parameter_name.endswith(f".{end}"):
                    parameter.fill_(value)
    return {"softmax": original, "inhibitor": student}


def inputs_of(model: PreTrainedModel, kind: str, batch: int, *, length: int | None = None) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(0)
    if kind == "images":
        size = model.config.image_size
        return {"pixel_values": torch.randn(batch, 3, size, size, generator=draw)}
    tokens = (batch, length or (PROMPT if kind == "generate" else LONG))
    return {"input_ids": torch.randint(5, model.config.vocab_size, tokens, generator=draw)}


@torch.inference_mode()
def call(model: PreTrainedModel, kind: str, inputs: dict[str, Tensor]) -> Any:
    """Tokens of `generate`, the last logits of a prefill, the logits of images."""
    if kind == "generate":
        fixed = {"max_new_tokens": NEW, "min_new_tokens": NEW, "do_sample": False, "pad_token_id": 0}
        return model.generate(**inputs, attention_mask=torch.ones_like(inputs["input_ids"]), **fixed)
    if kind == "prefill":
        return model(**inputs, use_cache=True, logits_to_keep=1).logits
    return logits(model, inputs)


@torch.inference_mode()
def logits(model: PreTrainedModel, inputs: dict[str, Tensor]) -> Tensor:
    """(B, N, vocabulary) of texts, (B, classes) of images."""
    found: Tensor = model(**inputs).logits
    return found


def few_of(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """The first text, cut to 64 tokens, or the first image."""
    return {name: t[:1, :64] if name == "input_ids" else t[:1] for name, t in inputs.items()}


def measure(models: Models, case: Case, budget: Budget) -> Times:
    """Sides `softmax` and `inhibitor`. Raises SystemExit where a model computes something else than plainly."""
    inputs = inputs_of(models["softmax"], case.kind, case.batch)
    few = few_of(inputs)
    for name, model in models.items():
        found = logits(model, few)
        with plainly(model):
            require_close(f"{name}, {case.title}", found, logits(model, few), FLOAT32)
    sides = {name: partial(call, model, case.kind, inputs) for name, model in models.items()}
    return interleave(sides, budget)


def cells(case: Case, times: Times, pairs: list[list[str]]) -> list[str]:
    softmax, inhibitor = times["softmax"], times["inhibitor"]
    ratio = f"{inhibitor.minimum / softmax.minimum:.3f} ({inhibitor.median / softmax.median:.3f})"
    each = [f"{side.minimum * 1e3:.1f} ({side.median * 1e3:.1f})" for side in (softmax, inhibitor)]
    peaks = [peak(case, name, pairs) for name in times]
    return [case.title, case.model, str(case.batch), *each, ratio, *peaks, str(softmax.rounds)]


def peak(case: Case, side: str, pairs: list[list[str]]) -> str:
    """MiB that a call takes besides the model, as every malloc of a fresh process tells; "–" where none can be seen."""
    counter = allocation_counter()
    if counter is None:
        return "–"
    given = [word for pair in pairs for word in ("--pair", *pair)]
    command = [sys.executable, __file__, *given, "--peak", case.model, case.kind, str(case.batch), side]
    seen = os.environ | {"LD_PRELOAD": str(counter)}
    run = subprocess.run(command, check=True, capture_output=True, text=True, env=seen)
    return f"{int(run.stdout.split()[-1]) / 2**20:.1f}"


def print_peak(name: str, kind: str, batch: str, side: str, pairs: dict[str, tuple[str, str]]) -> None:
    torch.set_num_threads(1)
    model = load(name, pairs)[side]
    inputs = inputs_of(model, kind, int(batch))
    logits(model, few_of(inputs))  # what a first call needs once
    print(peak_of(lambda: call(model, kind, inputs)))


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--cases", nargs="+", default=["generate", "prefill", "images"], help="kinds of calls")
    parser.add_argument("--pair", nargs=3, action="append", default=[], metavar=("NAME", "TEACHER", "STUDENT"))
    parser.add_argument("--seconds", type=float, default=30.0, help="for each row, after the rounds")
    parser.add_argument("--rounds", type=int, default=5, help="for each row at least")
    parser.add_argument("--output", type=Path, help="a new file for the Markdown")
    parser.add_argument("--peak", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if wrong := {name for name, *_ in options.pair} - {"gpt2", "llama", "vit"}:
        parser.error(f"--pair takes gpt2, llama or vit, got {', '.join(sorted(wrong))}")
    return options


if __name__ == "__main__":
    main()
