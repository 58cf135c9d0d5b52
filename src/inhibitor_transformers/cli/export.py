"""`inhibit export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .console import log
from .options import Overwrite, Threads, quiet


def export(
    model: Annotated[str, typer.Argument(help="An InhibiDistilBERT model with any head: a folder or Hub id.")],
    output: Annotated[Path, typer.Argument(help="Folder for the exported model, its config and its tokenizer.")],
    runtime: Annotated[
        str,
        typer.Option(
            "--runtime",
            help="Where it is to run: onnxruntime, openvino, torch (torch.export), or aotinductor (compiled, for C++).",
        ),
    ] = "onnxruntime",
    precision: Annotated[
        str | None,
        typer.Option(
            "--precision", help="float32, bfloat16 (openvino), or int8 (of a quantized model, and its default)."
        ),
    ] = None,
    overwrite: Overwrite = False,
    threads: Threads = None,
) -> None:
    """Export an inhibitor model for another runtime.

    The exported model needs neither this package nor transformers; its outputs are compared with the model's.
    """
    from ..deploy.export import RUNTIMES, export_model

    quiet(threads)
    done = export_model(model, output, runtime, precision, overwrite=overwrite)
    files = [done.file, *(done.file.with_name(name) for name in RUNTIMES[runtime].beside)]
    size = sum(file.stat().st_size for file in files if file.exists())
    log(f"{done.model_class} exported to {done.file} ({size / 1e6:.1f} MB)")
    for name, difference in done.differences.items():
        log(f"largest difference from the model, {name}: {difference:.1e} of the largest output")
    if done.loading:
        log(f"to load it: {done.loading}")
