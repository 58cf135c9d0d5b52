"""`inhibit quantize`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .console import log
from .console import output as stdout
from .options import Overwrite, Seed, Threads, quiet


def quantize(
    model: Annotated[str, typer.Argument(help="An InhibiDistilBERT model with any head: a folder or Hub id.")],
    output: Annotated[Path, typer.Argument(help="Folder for the quantized model.")],
    text: Annotated[
        list[str] | None,
        typer.Option(
            help="Text to calibrate on: file, folder, Hub id, or 'this-machine' (default: what is on it); repeatable."
        ),
    ] = None,
    bits: Annotated[int, typer.Option(help="Bits of the integers in attention: 3 to 6, 8 or 16.")] = 8,
    linears: Annotated[bool, typer.Option("--linears/--no-linears", help="Quantize linear layers to int8.")] = True,
    embeddings: Annotated[
        bool, typer.Option("--embeddings/--no-embeddings", help="Quantize word embeddings to int8.")
    ] = False,
    split: Annotated[
        bool, typer.Option("--split/--no-split", help="Split wide features of queries and keys where it pays.")
    ] = True,
    max_texts: Annotated[int, typer.Option(min=1, help="Number of texts to calibrate on.")] = 128,
    max_length: Annotated[int, typer.Option(min=8, help="Truncate texts to so many tokens.")] = 128,
    overwrite: Overwrite = False,
    seed: Seed = 0,
    threads: Threads = None,
) -> None:
    """Quantize an inhibitor model: integer attention, int8 layers.

    Ranges are chosen on calibration texts; a table shows the size, and how close the embeddings of other texts stay.
    """
    from ..attention.integer.qparams import BITS
    from ..common.inputs import require_apart
    from ..common.output_dir import OutputDir

    if bits not in BITS:
        raise ValueError(f"--bits must be one of {list(BITS)}, got {bits}")
    require_apart(output, {"model": model, "text": text})
    folder = OutputDir(output, "quantize", overwrite=overwrite, resumable=False)
    from ..deploy.quantize import cost_table, quantize
    from ..models.pretrained import load_as_saved, load_tokenizer
    from ..models.saving import save_model
    from ..report import print_table
    from ..tasks import load_texts, split_held_out
    from ..tasks.text import THIS_MACHINE

    quiet(threads)
    with folder:
        loaded, tokenizer = load_as_saved(model), load_tokenizer(model)
        texts, unseen = split_held_out(load_texts(text or [THIS_MACHINE], max_texts=2 * max_texts, seed=seed), 0.5)
        made = quantize(
            loaded,
            texts[:max_texts],
            tokenizer,
            bits=bits,
            linears=linears,
            embeddings=embeddings,
            split=split,
            max_length=max_length,
        )
        folder.create({"model": model, "bits": bits, "linears": linears, "embeddings": embeddings, "split": split})
        save_model(folder.path, made, tokenizer)
        folder.finish()
    print_table(cost_table(loaded, made, tokenizer, unseen[:max_texts], max_length=max_length), stdout())
    log(f"quantized model saved in {output}")
