"""Converts a tiny random model of every architecture of the zoo, and writes what happened as a page of the docs:

    python benchmarks/support.py [--output docs/reference/architectures.md] [--only Llama T5 …]

No entry is written by hand: each is what `convert`, saving, reloading, padding, a backward pass and `generate` gave.
"""

from __future__ import annotations

import argparse
import logging
import re
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from torch import Tensor
from zoo import ARCHITECTURES, Architecture

from inhibitor_transformers import convert

PAGE = """# Architectures

`convert(model, example)` takes any Transformers model whose attention goes through Transformers'
[attention interface](https://huggingface.co/docs/transformers/attention_interface): see
[Convert a model](../how-to/convert.md#any-model-convert). There is no list of architectures in the code.
The tables below are what happened to tiny models with random weights, written by `python benchmarks/support.py`.

- **attention**: modules that compute inhibitor attention, of all that the model has; *bias*: an additive term of the
  scores, such as relative positions
- **reload**: saved and loaded through the Auto classes, the outputs are bit-equal
- **padding**: a sequence gives the same outputs alone and in a padded batch, to 1e-4
- **gradients**: finite, and every scalar has one
- **generate**: greedy tokens are the same with and without a cache

{converted}
## Refused

{refused}
GPT-Neo, BLOOM, Falcon, MPT, MPNet, DeBERTa-v2, XLNet, Longformer and Funnel compute softmax in code of their own, which
nothing can replace from outside. Soft-capping and attention sinks change the softmax itself; inhibitor attention has no
counterpart to them.
"""
DASH = "–"


class Row(NamedTuple):
    """One converted architecture; each entry as the table shows it."""

    title: str
    kind: str
    attention: str
    reload: str
    padding: str
    gradients: str
    generate: str


def main() -> None:
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    logging.getLogger("inhibitor_transformers").setLevel(logging.ERROR)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="the page to write; else it is printed")
    parser.add_argument("--only", nargs="+", choices=list(ARCHITECTURES), default=list(ARCHITECTURES))
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # models are so small that threads would only wait for each other
    page = support_page([ARCHITECTURES[name] for name in arguments.only])
    if arguments.output:
        arguments.output.write_text(page, encoding="utf-8")
    else:
        print(page)


def support_page(architectures: list[Architecture]) -> str:
    """The page in Markdown."""
    rows, refused = [], []
    for architecture in architectures:
        torch.manual_seed(0)
        model, example = architecture.build(), architecture.inputs()
        try:
            student = convert(model, example)
        except ValueError as error:
            refused.append([architecture.title, type(model).__name__, _reason(str(error))])
        else:
            rows.append(_try(architecture, model, _moved(student), example))
    head = [name.replace("kind", "class").replace("title", "architecture") for name in Row._fields]
    return PAGE.format(converted=_table(head, rows), refused=_table(["architecture", "class", "reason"], refused))


def _reason(message: str) -> str:
    found = re.search(
        r"(its attention takes [^;]*|no attention module calls transformers' attention interface)", message
    )
    return found[0] if found else message


@torch.no_grad()
def _moved(student: Any) -> Any:
    """Scalars away from their start, where a lost one would not be seen."""
    for name, parameter in student.named_parameters():
        if ".inhibitor." in name:
            parameter += 0.1 * torch.rand_like(parameter)
    return student


def _try(architecture: Architecture, model: Any, student: Any, example: dict[str, Any]) -> Row:
    with tempfile.TemporaryDirectory() as folder:
        student.save_pretrained(folder)
        reload = _yes(_same(_run(student, example), _run(_load(folder, student), example)))
    generate = DASH
    if student.can_generate() and {"input_ids", "input_features"} & example.keys():
        generate = _yes(_generates(student, example))
    return Row(
        architecture.title,
        type(model).__name__,
        _attention(student),
        reload,
        _padding(student, example),
        _yes(_has_gradients(student, example)),
        generate,
    )


def _yes(holds: bool) -> str:
    return "yes" if holds else "**no**"


def _attention(student: Any) -> str:
    record = student.config.record
    kinds = {
        "causal": any(site.is_causal for site in record.sites),
        "grouped heads": any(site.heads != site.kv_heads for site in record.sites),
        "bias": any(site.has_bias for site in record.sites),
        "applied several times": any(site.applications > 1 for site in record.sites),
    }
    total = len(record.sites) + len(record.unconverted)
    return ", ".join([f"{len(record.sites)} of {total}", *(kind for kind, holds in kinds.items() if holds)])


def _load(folder: str, student: Any) -> Any:
    """By the first Auto class that gives the class that was saved; by the class itself where none knows it."""
    for name in dir(transformers):
        auto = getattr(transformers, name) if name.startswith("AutoModel") else None
        mapping = getattr(auto, "_model_mapping", None)
        known = mapping[type(student.config)] if mapping is not None and type(student.config) in mapping else ()
        if type(student) in (known if isinstance(known, tuple) else (known,)):
            return auto.from_pretrained(folder)
    return type(student).from_pretrained(folder)


@torch.no_grad()
def _run(model: Any, inputs: dict[str, Any]) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {name: value for name, value in model(**inputs).items() if isinstance(value, Tensor)}


def _same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def _padding(student: Any, example: dict[str, Any]) -> str:
    """Of texts; other inputs are not cut."""
    if not {"input_ids", "attention_mask"} <= example.keys() or "pixel_values" in example:
        return DASH
    together = _run(student, example)["logits"]
    for row in range(len(together)):
        alone = {}
        for name, value in example.items():
            length = int(example[name.replace("input_ids", "attention_mask")][row].sum())
            alone[name] = value[row : row + 1, :length]
        logits = _run(student, alone)["logits"]
        if not torch.allclose(together[row, : logits.shape[1]], logits[0], rtol=1e-4, atol=1e-4):
            return _yes(False)
    return _yes(True)


def _has_gradients(student: Any, example: dict[str, Any]) -> bool:
    outputs = student(**example)
    losses = [t.float().pow(2).mean() for t in outputs.to_tuple() if isinstance(t, Tensor) and t.requires_grad]
    torch.stack(losses).sum().backward()
    finite = all(p.grad is None or bool(torch.isfinite(p.grad).all()) for p in student.parameters())
    reached = all(p.grad is not None for name, p in student.named_parameters() if ".inhibitor." in name)
    student.zero_grad()
    return finite and reached


def _generates(student: Any, example: dict[str, Any]) -> bool:
    inputs = {name: value for name, value in example.items() if not name.startswith("decoder_")}
    if "decoder_input_ids" not in example and "pixel_values" not in example:  # continued on the right
        inputs = {name: value[:1] for name, value in inputs.items()}
    options = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False}
    drawn = [student.generate(**inputs, **options, use_cache=use_cache) for use_cache in (True, False)]
    return torch.equal(*drawn)


def _table(head: list[str], rows: list[Any]) -> str:
    lines = [" | ".join(map(str, row)) for row in (head, ["---"] * len(head), *rows)]
    return "".join(f"| {line} |\n" for line in lines)


if __name__ == "__main__":
    main()
