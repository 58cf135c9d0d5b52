"""AOTInductor: a model compiled for processors like this one, which runs without Python, and calls our operator."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ...models.saving import writing
from ..runtimes import torch_operator
from .operator import with_operator
from .runtime import Precision, Run, Runtime
from .torch_program import quiet, trace
from .tracing import Tensors, Traceable

# With AOTI_RUNTIME_CHECK_INPUTS=1 a package checks its inputs; without this it would then refuse a batch of one.
_CONFIG = {"aot_inductor.check_lowerbound": False}


class _Checked(Traceable):
    """A model that refuses tokens that it does not know, and too many of them.

    Compiled code looks them up all the same: it reads past the end of its tables, or ends the process.
    """

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensors:
        config = self.model.config
        known = (input_ids >= 0) & (input_ids < config.vocab_size)
        torch._assert_async(known.all(), f"input_ids must be at least 0 and below {config.vocab_size}")
        # Counted by what the tokens are: the tracer takes for granted that the length is one that it was told of.
        longest = config.max_position_embeddings
        torch._assert_async((known.sum(-1) <= longest).all(), f"the model takes {longest} tokens at most")
        if token_type_ids is not None:
            types = (token_type_ids >= 0) & (token_type_ids < config.type_vocab_size)
            torch._assert_async(types.all(), f"token_type_ids must be at least 0 and below {config.type_vocab_size}")
        return super().forward(input_ids, attention_mask, token_type_ids)


def _write(model: PreTrainedModel, file: Path) -> None:
    with writing(file):
        torch_operator.copy_library(file.parent)
    program = trace(model, _Checked(with_operator(model, torch_operator.load())))
    package = io.BytesIO()  # as in to_torch
    with quiet(), torch.no_grad():
        torch._inductor.aoti_compile_and_package(program, package_path=package, inductor_configs=_CONFIG)
    with writing(file):
        file.write_bytes(package.getbuffer())


def _runs(file: Path, precision: str) -> Iterator[tuple[str, Run]]:
    torch_operator.load()
    model = torch._inductor.aoti_load_package(str(file))
    yield "operator", lambda inputs: model(**inputs)


def _missing() -> str | None:
    from torch._inductor import cpp_builder, exc

    try:
        cpp_builder.get_cpp_compiler()
    except exc.InvalidCxxCompiler:
        return "no C++ compiler was found; set CXX to one"
    return torch_operator.unavailable()


AOTINDUCTOR = Runtime(
    name="aotinductor",
    file="model.aoti.pt2",
    packages=(),
    extra="",
    precisions={"float32": Precision(_write)},
    runs=_runs,
    beside=(torch_operator.FILE,),
    loading=lambda folder, precision: (
        f"torch.ops.load_library('{folder}/{torch_operator.FILE}'), or dlopen in C++, then torch._inductor."
        f"aoti_load_package('{folder}/model.aoti.pt2'), or AOTIModelPackageLoader"
    ),
    missing=_missing,
)
