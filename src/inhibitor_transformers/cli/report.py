"""`inhibit report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..common.paths import expand_user
from .console import log
from .options import Device, Threads, quiet, resolve_model, torch_device


def report(
    student: Annotated[str, typer.Argument(help="A model made by convert(), of text or pictures: a folder or Hub id.")],
    teacher: Annotated[str, typer.Option("--teacher", help="The softmax model that it was made from.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The page to write, an HTML file.")],
    text: Annotated[
        list[str] | None,
        typer.Option("--text", help="A text that both models continue, or a file or folder of texts; repeatable."),
    ] = None,
    images: Annotated[
        list[Path] | None,
        typer.Option("--images", help="A picture, a folder of pictures, or a data set with images; repeatable."),
    ] = None,
    max_examples: Annotated[int, typer.Option(min=1, help="Texts or pictures on the page: the first ones.")] = 4,
    new_tokens: Annotated[int, typer.Option(min=1, help="Tokens that each model writes after a text.")] = 48,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the page in that file.")] = False,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Show a converted model beside its softmax teacher on one page.

    Of pictures: which patches pass in each layer, over the picture, and both classes. Of texts: both continuations,
    marked token by token, and which tokens pass. And what was converted, what not, and why.
    """
    from ..common.inputs import require_apart
    from ..report import require_free_for_page, write_model_page

    if bool(text) == bool(images):
        raise ValueError("give either texts to continue (--text) or pictures (--images)")
    require_apart(output, {"student": student, "teacher": teacher, "text": text, "images": images})
    require_free_for_page(output, overwrite=overwrite)
    quiet(threads)
    where = torch_device(device)
    from ..common.progress import progress
    from ..evaluation.model_report import report_on_pictures, report_on_texts
    from ..evaluation.passing import require_counterpart
    from ..models.pretrained import load_as_saved, load_tokenizer
    from ..tasks.modalities import load_preprocessor

    examples = _read_examples(text, images, max_examples)
    ours, theirs = (load_as_saved(resolve_model(source), encoder=False).to(where) for source in (student, teacher))
    require_counterpart(ours, theirs)
    names = _name(student), _name(teacher)
    if text:
        tokenizer = load_tokenizer(resolve_model(teacher), pad_with_end=True)
        made = report_on_texts(ours, theirs, tokenizer, examples, names=names, new_tokens=new_tokens)
    else:
        processor = load_preprocessor(resolve_model(teacher))
        made = report_on_pictures(ours, theirs, processor, examples, names=names)
    with progress("drawing the page"):
        write_model_page(made, output)
    log(f"page written to {output}")


def _read_examples(text: list[str] | None, images: list[Path] | None, count: int) -> list[Any]:
    """Texts, or else pictures."""
    from ..tasks.modalities.pictures import read_pictures
    from ..tasks.prompts import read_prompts

    return read_prompts(text, count) if text else list(read_pictures(images or [], count))


def _name(source: str) -> str:
    """What the page calls a model: the last part of a folder's path, or a Hub id."""
    return expand_user(source).resolve().name if expand_user(source).is_dir() else source
