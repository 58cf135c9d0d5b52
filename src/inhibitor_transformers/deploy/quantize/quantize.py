"""Quantizes a model: its linear layers first, then its attention as these feed it."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ...attention import InhibitorScalars
from ...attention.integer import QuantizedScalars
from ...attention.integer.qparams import Bits
from ...common.progress import track
from ...models import InhibiDistilBertPreTrainedModel
from ...models.architectures import STUDENT, attention_layers, transformer_layers
from ...models.compatibility import warn_of_lost_segments
from ...models.loading import require_finite
from ...models.pretrained import require_known_tokens
from ...models.quantized import InhibitorIntegersConfig, Int8Embedding, Int8Linear
from ...models.quantized.modules import join, linear_modules, replace, word_embeddings
from ...models.quantized.quantizer import mark_quantized
from ...models.value_center import center_values
from .activations import read_texts, watch_attention
from .attention import AttentionInputs
from .ranges import InputRange
from .texts import Batch, Texts, as_batches, check_texts, require_max_length

_NAMES = STUDENT.layer
_PLAIN_MODULES: dict[str, type[nn.Module]] = dict.fromkeys(
    (_NAMES.query, _NAMES.key, _NAMES.value, _NAMES.output, _NAMES.up, _NAMES.down), nn.Linear
) | {"attention.inhibitor": InhibitorScalars}


@torch.no_grad()
def quantize(
    model: PreTrainedModel,
    texts: Texts,
    tokenizer: PreTrainedTokenizerBase,
    *,
    bits: Bits = 8,
    linears: bool = True,
    embeddings: bool = False,
    split: bool = True,
    max_length: int = 128,
    batch_size: int = 16,
) -> PreTrainedModel:
    """A copy of an InhibiDistilBERT model (any head) that computes in integers, calibrated on `texts`.

    Args:
        model: the float model, in evaluation mode afterwards as before; it is not changed.
        texts: some dozens to hundreds of texts, or of pairs of texts, like those that will be read; blank ones are
            left out.
        tokenizer: the model's.
        bits: of the attention, 3 to 6, 8 or 16.
        linears: whether the linear layers of all blocks get 8-bit weights and inputs.
        embeddings: whether word embeddings get 8 bits.
        split: whether features of q and k that are wider than others may become several, where it pays: a finer step,
            for more work per distance.
        max_length: tokens of a text that are read.
        batch_size: texts at a time.

    Raises ValueError for what cannot be quantized (naming the module), settings that make no sense, no texts, tokens
    that the model lacks, or weights or activations that are not finite.
    """
    config = InhibitorIntegersConfig(bits=bits, linears=linears, embeddings=embeddings)
    _check(model)
    require_known_tokens(tokenizer, model.config, type(model).__name__)
    if embeddings and model.get_output_embeddings() is not None:
        raise ValueError(
            f"the word embeddings of {type(model).__name__} project its output too: leave them as they are"
        )
    listed = check_texts(texts)
    require_max_length(max_length, tokenizer, is_pair=isinstance(listed[0], tuple))
    if isinstance(listed[0], tuple):
        warn_of_lost_segments(model.config, tokenizer, "quantize")
    length = min(max_length, model.config.max_position_embeddings)
    batches = as_batches(listed, tokenizer, max_length=length, batch_size=batch_size)
    made = copy.deepcopy(model).cpu().float().eval()
    if linears:
        quantize_linears(made, batches)
    features = quantize_attention(made, batches, bits, split=split)
    if embeddings:
        name, table = word_embeddings(made)
        replace(made, name, Int8Embedding.from_embedding(table))
    mark_quantized(made, dataclasses.replace(config, features=features))
    return made.requires_grad_(False)


@torch.no_grad()
def quantize_linears(model: PreTrainedModel, batches: Sequence[Batch]) -> None:
    """Replace the linear modules of all transformer layers of a DistilBERT or InhibiDistilBERT model, in place."""
    names = linear_modules(model)
    ranges = {name: InputRange() for name in names}

    def watch(name: str) -> Callable[..., None]:
        return lambda _, arguments, valid: ranges[name].add(arguments[0][valid])

    read_texts(model, batches, {module: watch(name) for name, module in names.items()}, before=True)
    for together in track(_by_input(model, names), "quantizing linear layers"):
        try:
            sizes = None if together[0].endswith(_NAMES.down) else _sizes(model, together, names, ranges)
            for name in together:
                replace(model, name, Int8Linear.from_linear(names[name], *ranges[name].best(sizes), sizes))
        except ValueError as error:
            raise ValueError(f"{together[0]} cannot be quantized: {error}") from error
    join(model)


def _by_input(model: PreTrainedModel, linears: dict[str, nn.Linear]) -> list[list[str]]:
    """Names of the layers that read the same tensor: q, k and v of each attention; every other one by itself."""
    attention_of = {
        projection: layer.name
        for layer in attention_layers(model)
        for projection in (layer.query, layer.key, layer.value)
    }
    groups: dict[str, list[str]] = {}
    for name, module in linears.items():
        groups.setdefault(attention_of.get(module, name), []).append(name)
    return list(groups.values())


def _sizes(
    model: PreTrainedModel, together: list[str], linears: dict[str, nn.Linear], ranges: dict[str, InputRange]
) -> Tensor:
    """Sizes of the features that all of these modules read. (oneDNN writes what `lin2` reads, with one step.)

    The features of a head share one: integer attention that writes bytes has one step a head (`Requantize`).
    """
    sizes = ranges[together[0]].sizes(torch.cat([linears[name].weight for name in together]))
    if not together[0].endswith(_NAMES.output):
        return sizes
    of_heads = sizes.unflatten(0, (model.config.num_attention_heads, -1))
    return of_heads.amax(1, keepdim=True).expand_as(of_heads).flatten()


@torch.no_grad()
def quantize_attention(
    model: PreTrainedModel, batches: Sequence[Batch], bits: Bits, *, split: bool = True
) -> list[int]:
    """Replace the scalars of all attention layers by `QuantizedScalars`, in place; their features after splitting."""
    config = model.config
    layers = attention_layers(model)
    seen = {layer.name: AttentionInputs() for layer in layers}

    def add(name: str, q: Tensor, k: Tensor, v: Tensor, valid: Tensor) -> None:
        seen[name].add(q, k, center_values(v, valid, config.inhibitor_value_center).values, valid)

    watch_attention(model, batches, add)
    options = {"signed": config.inhibitor_signed, "center": config.inhibitor_center}
    counts = []
    for layer in track(layers, "quantizing attention"):
        try:
            qparams = seen[layer.name].best_qparams(layer.scalars, bits, options, split=split)
        except ValueError as error:
            raise ValueError(f"{layer.name} cannot be quantized: {error}") from error
        heads, features = qparams.offset.shape
        made = QuantizedScalars(
            heads,
            heads,
            qparams.dim,
            features=features,
            bits=bits,
            length_reference=layer.scalars.length_reference,
        )
        made.assign(qparams)
        layer.module.inhibitor = made
        counts.append(features)
    return counts


def _check(model: PreTrainedModel) -> None:
    if hasattr(model, "merge_and_unload"):
        raise ValueError("adapters cannot be quantized: merge them first, model = model.merge_and_unload()")
    if hasattr(model, "inhibitor_report"):
        raise ValueError(f"a converted {type(model).__name__} cannot be quantized yet: only InhibiDistilBERT can")
    if not isinstance(model, InhibiDistilBertPreTrainedModel):
        raise ValueError(
            f"{type(model).__name__} has no inhibitor attention, so it cannot be quantized here; "
            "make a student of it first (InhibiDistilBertModel.from_teacher, or `inhibit distill`)"
        )
    require_finite(model, f"this {type(model).__name__}")
    for name, module in model.named_modules():
        if isinstance(module, QuantizedScalars | Int8Linear | Int8Embedding):
            raise ValueError(f"{name} is quantized already: quantize the float model")
    for name, block in transformer_layers(model):
        for part, kind in _PLAIN_MODULES.items():
            found = getattr(block.get_submodule(part.rpartition(".")[0]), part.rpartition(".")[2], None)
            if type(found) is not kind:  # a subclass or a wrapper computes what its weights do not say
                raise ValueError(
                    f"{name}.{part} is not a plain {kind.__name__} but {type(found).__name__}, so it cannot be "
                    "quantized: merge adapters (merge_and_unload) and remove parametrizations first"
                )
    if away := next((name for name, tensor in model.state_dict().items() if tensor.is_meta), None):
        raise ValueError(f"{away} is offloaded: load the model without a device_map to quantize it")
