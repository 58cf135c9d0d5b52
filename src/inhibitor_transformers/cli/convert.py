"""`inhibit convert`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .console import log
from .distill import run_distillation
from .options import Device, Overwrite, Seed, Threads, quiet, resolve_model


def convert(
    teacher: Annotated[
        str,
        typer.Argument(help="Any transformers model with softmax attention: a folder, a Hub id, or 'minilm'."),
    ],
    output: Annotated[Path, typer.Argument(help="Folder for the converted model.")],
    layers: Annotated[
        str,
        typer.Option(
            help='Layers of a DistilBERT, BERT or RoBERTa to copy: "all", "every 2nd", "first 3", "last 3", "0,2,4".'
        ),
    ] = "all",
    module: Annotated[
        list[str] | None,
        typer.Option(
            help="Convert the model in its own class, and of it only this attention module, or those in it; repeatable."
        ),
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option(
            help="Text to calibrate on: file, folder, Hub id, or 'this-machine' (default: what is on it); repeatable."
        ),
    ] = None,
    images: Annotated[
        str | None, typer.Option(help="Images to calibrate on, of a model that reads images: folder, file or Hub id.")
    ] = None,
    audio: Annotated[
        str | None,
        typer.Option(help="Recordings to calibrate on, of a model that reads them: folder, file or Hub id."),
    ] = None,
    softmax: Annotated[
        bool, typer.Option("--softmax", help="Keep softmax attention: a DistilBERT with these weights, as a baseline.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be converted.")] = False,
    overwrite: Overwrite = False,
    seed: Seed = 0,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Convert a softmax model to inhibitor attention.

    Weights are copied; then four numbers per attention head are calibrated (fitted, on text, images or recordings, to
    the teacher's attention outputs). Nothing is trained. A DistilBERT, BERT or RoBERTa becomes an InhibiDistilBERT, any
    other model one of its own class.
    """
    if softmax:
        if text or images or audio or module or dry_run:
            raise ValueError("--softmax copies weights and needs no text; leave out --text and --dry-run")
        _convert_to_baseline(resolve_model(teacher), output, layers, overwrite=overwrite, threads=threads)
        return
    settings: dict[str, Any] = {"teacher": teacher, "layers": layers, "seed": seed, "stages": [{"calibrate": {}}]}
    settings |= {name: source for name, source in (("text", text), ("images", images), ("audio", audio)) if source}
    if not (images or audio):
        settings = {"text": ["this-machine"], "max_texts": 2000} | settings
    if module:
        settings["convert"] = {"modules": module}
    run_distillation(settings, output, dry_run=dry_run, overwrite=overwrite, device=device, threads=threads)


def _convert_to_baseline(teacher: str, output: Path, layers: str, *, overwrite: bool, threads: int | None) -> None:
    from ..common.inputs import require_apart
    from ..common.output_dir import OutputDir
    from ..models.pretrained import load_pretrained, load_tokenizer
    from ..models.saving import save_model
    from ..models.softmax_student import softmax_student

    quiet(threads)
    require_apart(output, {"teacher": teacher})
    with OutputDir(output, "convert", overwrite=overwrite, resumable=False) as folder:
        student, tokenizer = softmax_student(load_pretrained(teacher), layers), load_tokenizer(teacher)
        folder.create({"teacher": teacher, "layers": layers, "softmax": True})
        save_model(folder.path, student, tokenizer)
        folder.finish()
    log(f"baseline saved in {output}")
