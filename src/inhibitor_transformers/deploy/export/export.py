"""Exports a model folder: export, compare, and only then write."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from transformers import PreTrainedModel

from ...common.inputs import require_apart
from ...common.output_dir import OutputDir
from ...common.paths import expand_user
from ...common.progress import progress
from ...models import InhibiDistilBertPreTrainedModel
from ...models.pretrained import load_as_saved, load_tokenizer
from ...models.saving import writing
from .integers import is_quantized
from .runtime import INT8
from .to_aotinductor import AOTINDUCTOR
from .to_onnxruntime import ONNXRUNTIME
from .to_openvino import OPENVINO
from .to_torch import TORCH
from .verify import largest_difference

RUNTIMES = {
    runtime.name: runtime
    for runtime in (
        ONNXRUNTIME,
        OPENVINO,
        TORCH,
        AOTINDUCTOR,
    )
}


class Exported(NamedTuple):
    """What was written: the file, the class that it came from, and how far its outputs are from that (relative).

    differences: by the names of the ways in which the file can be run here. loading: how to load it; "": as any other.
    """

    file: Path
    model_class: str
    differences: dict[str, float]
    loading: str


def export_model(
    source: str | Path,
    output: str | Path,
    runtime: str = "onnxruntime",
    precision: str | None = None,
    *,
    overwrite: bool = False,
) -> Exported:
    """Export the InhibiDistilBERT of a folder or Hub id, with any head, to the folder `output`.

    Args:
        source: model folder or Hub id, with its tokenizer.
        output: gets model.onnx, model.pt2 or model.aoti.pt2, what the runtime needs beside it, config.json and the
            tokenizer's files. Batch size and length (up to the model's positions) are dynamic. Inputs are input_ids and
            attention_mask, and token_type_ids if the model has segments, all int64 (batch, length); outputs are float32
            and named as the model's.
        runtime: a name of RUNTIMES: "onnxruntime", "openvino" or "torch" (torch.export), the latter two with the
            operator, compiled, and a graph that needs none, or "aotinductor" (the model compiled; calls the operator).
        precision: of those that the runtime serves. "int8" is for a model that `inhibit quantize` made, and its
            default; that of other models is "float32".
        overwrite: replace what an earlier command wrote to `output`.

    Raises ValueError for a model of another architecture or without a tokenizer, a runtime or precision that is not
    served, an output folder that exists or touches the model, a missing package, or if the exported model's outputs are
    not the model's, and OSError if `output` cannot be written; it is untouched then.
    """
    source, output = os.path.expanduser(source), expand_user(output)
    if runtime not in RUNTIMES:
        raise ValueError(f"--runtime must be one of {', '.join(RUNTIMES)}, got {runtime!r}")
    chosen = RUNTIMES[runtime]
    chosen.require("float32" if precision is None else precision)
    require_apart(output, {"model": source})
    with OutputDir(output, "export", overwrite=overwrite, resumable=False) as folder:
        model, tokenizer = _load(source), load_tokenizer(source)
        precision = _precision(source, model, precision)
        if precision not in chosen.precisions:
            serving = ", ".join(name for name, other in RUNTIMES.items() if precision in other.precisions)
            raise ValueError(f"{source!r} is quantized, which --runtime {runtime} does not serve: {serving} do")
        wanted = chosen.require(precision)
        folder.create({"model": source, "runtime": runtime, "precision": precision})
        with progress(f"exporting for {runtime}"):
            wanted.write(model, folder.path / chosen.file)
        differences = {}
        for name, run in chosen.runs(folder.path / chosen.file, precision):
            with progress(f"comparing with the model: {name}"):
                differences[name] = largest_difference(model, run, wanted.tolerance)
        with writing(folder.path):
            model.config.save_pretrained(folder.path)
            tokenizer.save_pretrained(folder.path)
        folder.finish()
    loading = chosen.loading(output, precision)
    return Exported(output / chosen.file, type(model).__name__, differences, loading)


def _load(source: str) -> PreTrainedModel:
    model = load_as_saved(source)
    if not isinstance(model, InhibiDistilBertPreTrainedModel):
        raise ValueError(
            f"{source!r} is a {type(model).__name__}: only InhibiDistilBERT can be exported; inhibit convert makes one "
            "of a DistilBERT, BERT or RoBERTa teacher"
        )
    if type(model).__name__ not in (saved_by := [str(name) for name in model.config.architectures or []]):
        raise ValueError(f"{source!r} was saved by {', '.join(saved_by)}, which is not a class of this package")
    return model if is_quantized(model) else model.float()


def _precision(source: str, model: PreTrainedModel, asked: str | None) -> str:
    """The precision that is asked for, or the model's own. Raises ValueError if it is not one that the model has."""
    if is_quantized(model):
        if asked not in (None, INT8):
            raise ValueError(
                f"{source!r} is quantized: --precision {INT8}, or export {asked} from the model that it was made from"
            )
        return INT8
    if asked == INT8:
        raise ValueError(f"{source!r} is not quantized: inhibit quantize makes a model that can be exported in {INT8}")
    return asked or "float32"
