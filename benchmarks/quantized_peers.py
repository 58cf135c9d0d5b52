"""int8 models in every runtime: ours as `inhibit export` writes them, softmax models as people quantize them there.

A runtime has one function in PEERS. Softmax is quantized in OpenVINO by NNCF (static, with calibration), as it is and
with one product for queries, keys and values, which our exports have; in ONNX Runtime by its own quantizer (dynamic,
per channel); in torch by torchao, compiled. Every side is compared with the model in torch that it stands for before
anything is timed.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from agreement import INT8
from report import Report, machine, progress
from runtime_sides import Side, in_onnxruntime, timed_table
from timing import Budget
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer, PreTrainedModel

from inhibitor_transformers.deploy.export import RUNTIMES
from inhibitor_transformers.deploy.export.onnx_file import write_onnx
from inhibitor_transformers.deploy.export.runtime import INT8 as INT8_PRECISION
from inhibitor_transformers.deploy.export.runtime import Run
from inhibitor_transformers.deploy.export.tracing import Tensors, Traceable
from inhibitor_transformers.deploy.runtimes import openvino_operator
from inhibitor_transformers.evaluation.similarity import sts_spearman
from inhibitor_transformers.models.architectures import attention_layers
from inhibitor_transformers.models.quantized.modules import replace
from inhibitor_transformers.tasks.files import read_table

_AXES = {name: {0: "batch", 1: "length"} for name in ("input_ids", "attention_mask")}
_CALIBRATION_BATCHES = 8


class Models(NamedTuple):
    """A softmax model in float32, a quantized inhibitor model, and batches that tell the ranges of the former."""

    softmax: PreTrainedModel
    inhibitor: PreTrainedModel
    batches: Sequence[Tensors]


def ours(models: Models, runtime: str, folder: Path) -> Iterator[Side]:
    progress(f"exporting for {runtime}, int8")
    file = folder / RUNTIMES[runtime].file
    RUNTIMES[runtime].require(INT8_PRECISION).write(models.inhibitor, file)
    way, run = next(RUNTIMES[runtime].runs(file, INT8_PRECISION))
    yield Side(f"inhibitor, {way}", "int8", run, models.inhibitor, INT8)


class OneProduct(nn.Module):
    """Queries, keys and values by one linear layer; called for each in turn, it computes them in the first call."""

    def __init__(self, *layers: nn.Linear) -> None:
        super().__init__()
        self.linear = nn.Linear(layers[0].in_features, sum(layer.out_features for layer in layers))
        self.linear.weight.data = torch.cat([layer.weight for layer in layers])
        self.linear.bias.data = torch.cat([layer.bias for layer in layers])
        self.waiting: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        if not self.waiting:
            self.waiting = list(self.linear(x).chunk(3, -1))
        return self.waiting.pop(0)


def with_one_product(model: PreTrainedModel) -> PreTrainedModel:
    """A copy of a softmax model whose projections to q, k and v are one, as our exports have them."""
    copied = copy.deepcopy(model)
    for layer in attention_layers(copied):
        together = OneProduct(layer.query, layer.key, layer.value)
        for name, module in list(layer.module.named_modules()):
            if module in (layer.query, layer.key, layer.value):
                replace(layer.module, name, together)
    return copied.requires_grad_(False)


def openvino_peers(models: Models, folder: Path) -> Iterator[Side]:
    yield nncf_side("softmax, NNCF", models.softmax, models)
    yield nncf_side("softmax with one product for q, k, v, NNCF", with_one_product(models.softmax), models)
    yield from ours(models, "openvino", folder)


def nncf_side(name: str, softmax: PreTrainedModel, models: Models) -> Side:
    import nncf
    import openvino

    progress(f"quantizing {name}")
    arrays = [{name: t.numpy() for name, t in batch.items()} for batch in models.batches]
    shapes = [openvino.PartialShape([-1, -1])] * 2
    example = {name: t[:2] for name, t in models.batches[0].items()}
    model = openvino.convert_model(Traceable(softmax), example_input=example, input=shapes)
    quantized = nncf.quantize(
        model, nncf.Dataset(arrays), model_type=nncf.ModelType.TRANSFORMER, subset_size=len(arrays)
    )
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    compiled = openvino_operator.new_core().compile_model(quantized, "CPU", settings)

    def run(inputs: Tensors) -> Tensors:
        found = compiled({name: t.numpy() for name, t in inputs.items()})
        return {"last_hidden_state": torch.from_numpy(found[0].copy())}

    return Side(name, "int8", run, models.softmax, INT8)


def onnxruntime_peers(models: Models, folder: Path) -> Iterator[Side]:
    from onnxruntime.quantization import quantize_dynamic

    progress("quantizing softmax by ONNX Runtime")
    plain, quantized = folder / "softmax.onnx", folder / "softmax-int8.onnx"
    example = {name: t[:2, :7].clone() for name, t in models.batches[0].items()}
    names = list(Traceable(models.softmax)(**example))
    write_onnx(Traceable(models.softmax).eval(), example, _AXES, names, plain)
    quantize_dynamic(plain, quantized, per_channel=True)
    yield Side("softmax, dynamic", "int8", in_onnxruntime(quantized), models.softmax, INT8)
    yield from ours(models, "onnxruntime", folder)


def torch_peers(models: Models, folder: Path) -> Iterator[Side]:
    yield Side("inhibitor", "int8", in_torch(models.inhibitor), models.inhibitor, INT8)


def torchao_peers(models: Models, folder: Path) -> Iterator[Side]:
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

    progress("quantizing softmax by torchao, compiling")
    model = copy.deepcopy(models.softmax)
    quantize_(model, Int8DynamicActivationInt8WeightConfig())
    yield Side("softmax, dynamic, compiled", "int8", in_torch(torch.compile(model)), models.softmax, INT8)


def in_torch(model: nn.Module) -> Run:
    @torch.inference_mode()
    def run(inputs: Tensors) -> Tensors:
        return {"last_hidden_state": model(**inputs).last_hidden_state.clone()}

    return run


PEERS: dict[str, Callable[[Models, Path], Iterator[Side]]] = {
    "openvino": openvino_peers,
    "onnxruntime": onnxruntime_peers,
    "torchao": torchao_peers,
    "torch": torch_peers,
}


class Embedder(nn.Module):
    """What a side runs, as a model that `sts_spearman` reads."""

    device = torch.device("cpu")

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run = run

    @property
    def base_model(self) -> Embedder:
        return self

    def forward(self, **inputs: Tensor) -> Any:
        return argparse.Namespace(**self.run(inputs))


def peer_tables(models: Models, options: argparse.Namespace) -> None:
    """A table of times for each number of threads, accuracy where a student is given, all rows to `options.json`."""
    report, written = Report(options.output), Report(options.json)
    report.line(f"{machine()}. int8 models; milliseconds: minima (medians).")
    shapes = [(batch, length) for batch in options.batches for length in options.lengths]
    rows: list[dict[str, Any]] = []
    for threads in options.threads:
        torch.set_num_threads(threads)
        with TemporaryDirectory() as folder:
            sides: dict[str, list[Side]] = {}
            for runtime in options.peers:
                place = Path(folder) / runtime
                place.mkdir()
                sides[runtime] = list(PEERS[runtime](models, place))
            texts = models.batches[0] if options.student else None
            rows += timed_table(report, sides, shapes, Budget(options.rounds, options.seconds), texts)
            if options.student and threads == options.threads[-1]:
                rows += accuracy_table(report, sides, options)
    if written.output is not None:
        written.output.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def accuracy_table(report: Report, sides: dict[str, list[Side]], options: argparse.Namespace) -> list[dict[str, Any]]:
    """STS-B without training: Spearman's correlation of each side."""
    tokenizer = AutoTokenizer.from_pretrained(options.student)
    pairs = read_table(options.stsb / "validation.parquet")
    report.line("\n## STS-B, zero-shot")
    report.header(["", "", "Spearman"])
    rows = []
    for runtime, of_runtime in sides.items():
        for side in of_runtime:
            score = sts_spearman(Embedder(side.run), tokenizer, pairs)  # type: ignore[arg-type]
            report.row([runtime, side.name, f"{score:.4f}"])
            rows.append({"side": side.name, "precision": side.precision, "runtime": runtime, "sts": score})
    return rows


def of_student(options: argparse.Namespace) -> Models:
    """The quantized student of a folder, its teacher, and texts of STS-B's training set."""
    inhibitor = AutoModel.from_pretrained(options.student).eval()
    softmax = AutoModel.from_pretrained(options.teacher).eval()
    tokenizer = AutoTokenizer.from_pretrained(options.student)
    texts = read_table(options.stsb / "train.parquet")["sentence1"][: 16 * _CALIBRATION_BATCHES]
    batches = [
        dict(tokenizer(texts[i : i + 16], padding=True, return_tensors="pt", return_token_type_ids=False))
        for i in range(0, len(texts), 16)
    ]
    return Models(softmax, inhibitor, batches)
