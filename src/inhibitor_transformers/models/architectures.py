"""What differs between encoder architectures: one record each, and everything that is read from models through it.

To make students of another BERT-like architecture, add its `Architecture` to `ARCHITECTURES`; nothing else knows names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Any, NamedTuple

from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel


class LayerNames(NamedTuple):
    """Modules of a transformer layer, by their path below it."""

    query: str
    key: str
    value: str
    output: str  # the attention's output projection
    attention_norm: str
    up: str  # the first linear layer of the feed-forward part
    down: str
    output_norm: str


@dataclass(frozen=True)
class Architecture:
    """Where an architecture of transformers keeps what DistilBERT's names stand for. Embeddings are named as BERT's.

    layers: the list of its transformer layers, below the encoder.
    layer: the modules of a layer.
    config_fields: field of a student's configuration → field of this architecture's, where these are no names that all
        architectures share (`num_hidden_layers`, `hidden_size`, …).
    heads: task → module of a student's head → module of this architecture's head for that task, if its weights fit.
    masked_lm: the modules that make vocabulary logits of hidden states, in their order.
    positions_follow_padding: whether positions are numbered from `pad_token_id` + 1 on, as RoBERTa's.
    is_teacher: whether students can be made of it.
    """

    layers: str
    layer: LayerNames
    config_fields: Mapping[str, str]
    heads: Mapping[str, Mapping[str, str]]
    masked_lm: tuple[str, ...]
    positions_follow_padding: bool = field(default=False, kw_only=True)
    is_teacher: bool = field(default=True, kw_only=True)


# Heads alike in BERT, RoBERTa and DistilBERT; the other heads of the first two read a pooler, which a student lacks.
PER_TOKEN_HEADS: dict[str, Mapping[str, str]] = {
    "TokenClassification": {"classifier": "classifier"},
    "QuestionAnswering": {"qa_outputs": "qa_outputs"},
}
_POOLED_HEAD = {"pre_classifier": "pre_classifier", "classifier": "classifier"}

BERT = Architecture(
    "encoder.layer",
    LayerNames(
        query="attention.self.query",
        key="attention.self.key",
        value="attention.self.value",
        output="attention.output.dense",
        attention_norm="attention.output.LayerNorm",
        up="intermediate.dense",
        down="output.dense",
        output_norm="output.LayerNorm",
    ),
    config_fields={
        "hidden_dim": "intermediate_size",
        "dropout": "hidden_dropout_prob",
        "attention_dropout": "attention_probs_dropout_prob",
        "activation": "hidden_act",
    },
    heads=PER_TOKEN_HEADS
    | {
        "MaskedLM": {
            "vocab_transform": "cls.predictions.transform.dense",
            "vocab_layer_norm": "cls.predictions.transform.LayerNorm",
            "vocab_projector": "cls.predictions.decoder",
        }
    },
    masked_lm=("cls",),
)
ROBERTA = replace(
    BERT,
    heads=PER_TOKEN_HEADS
    | {
        "MaskedLM": {
            "vocab_transform": "lm_head.dense",
            "vocab_layer_norm": "lm_head.layer_norm",
            "vocab_projector": "lm_head.decoder",
        }
    },
    masked_lm=("lm_head",),
    positions_follow_padding=True,
)
DISTILBERT = Architecture(
    "transformer.layer",
    LayerNames(
        query="attention.q_lin",
        key="attention.k_lin",
        value="attention.v_lin",
        output="attention.out_lin",
        attention_norm="sa_layer_norm",
        up="ffn.lin1",
        down="ffn.lin2",
        output_norm="output_layer_norm",
    ),
    config_fields={
        name: name
        for name in ("hidden_dim", "dropout", "attention_dropout", "activation", "qa_dropout", "seq_classif_dropout")
    },
    heads=PER_TOKEN_HEADS
    | {
        "MaskedLM": {name: name for name in ("vocab_transform", "vocab_layer_norm", "vocab_projector")},
        "SequenceClassification": _POOLED_HEAD,
        "MultipleChoice": _POOLED_HEAD,
    },
    masked_lm=("vocab_transform", "activation", "vocab_layer_norm", "vocab_projector"),
)
STUDENT = replace(DISTILBERT, is_teacher=False)  # InhibiDistilBERT itself

# By `model_type` of the configuration.
ARCHITECTURES: dict[str, Architecture] = {
    "bert": BERT,
    "roberta": ROBERTA,
    "distilbert": DISTILBERT,
    "inhibidistilbert": STUDENT,
}


def teacher_architecture(config: PretrainedConfig) -> Architecture:
    """The record of a teacher. Raises ValueError, naming those that are known, if no student can be made of it."""
    found = ARCHITECTURES.get(config.model_type)
    if found is None or not found.is_teacher:
        known = sorted(name for name, record in ARCHITECTURES.items() if record.is_teacher)
        raise ValueError(f"no student can be built from a {config.model_type!r} teacher; supported: {known}")
    if _is_decoder(config):
        raise ValueError(f"no student can be built from a {config.model_type!r} decoder; supported are encoders")
    return found


def is_known_encoder(config: PretrainedConfig) -> bool:
    """Whether a model is an encoder of an architecture that has a record."""
    return config.model_type in ARCHITECTURES and not _is_decoder(config)


def _is_decoder(config: PretrainedConfig) -> bool:
    return bool(getattr(config, "is_decoder", False) or getattr(config, "add_cross_attention", False))


def find_field(config: PretrainedConfig, name: str) -> str | None:
    """What a configuration calls a field of `config_fields`, such as "attention_dropout"; None where it has none.

    Of an architecture that has no record, by the names that any record has for it.
    """
    record = ARCHITECTURES.get(config.model_type)
    known = ARCHITECTURES.values() if record is None else [record]
    names = (other.config_fields[name] for other in known if name in other.config_fields)
    return next((theirs for theirs in names if hasattr(config, theirs)), None)


@dataclass(frozen=True)
class AttentionLayer:
    """The attention of one transformer layer.

    name: of `module` in the model, e.g. "distilbert.transformer.layer.0.attention".
    module: what computes attention: the module that holds the query, key and value projections.
    query, key, value: (B, N, dim) → (B, N, heads · head size) each. output: the projection of the attention output.
    """

    name: str
    module: Any
    query: nn.Module
    key: nn.Module
    value: nn.Module
    output: nn.Module

    @property
    def scalars(self) -> Any:
        """γ, η, δ, ρ of an inhibitor layer, `InhibitorScalars` or `QuantizedScalars`; None for softmax attention."""
        return getattr(self.module, "inhibitor", None)


def attention_layers(model: PreTrainedModel) -> list[AttentionLayer]:
    """The attention layers of a model with any head, first layer first.

    Raises ValueError for an architecture that has no record.
    """
    names = _architecture(model).layer
    return [
        AttentionLayer(
            f"{name}.{names.query.rpartition('.')[0]}",
            layer.get_submodule(names.query.rpartition(".")[0]),
            *(layer.get_submodule(part) for part in (names.query, names.key, names.value, names.output)),
        )
        for name, layer in transformer_layers(model)
    ]


def transformer_layers(model: PreTrainedModel) -> Iterator[tuple[str, Any]]:
    """(name in the model, transformer layer), first layer first. Raises ValueError as `attention_layers` does."""
    path = _architecture(model).layers
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and f".{name}".endswith(f".{path}"):
            yield from ((f"{name}.{i}", layer) for i, layer in enumerate(module))


def _architecture(model: PreTrainedModel) -> Architecture:
    kind = model.config.model_type
    if kind not in ARCHITECTURES:
        raise ValueError(f"the layers of a {kind!r} model are not known here; known: {sorted(ARCHITECTURES)}")
    return ARCHITECTURES[kind]


@contextmanager
def record_attention_outputs(layers: list[AttentionLayer]) -> Iterator[list[Tensor]]:
    """While inside, every call of a layer appends its attention output, (B, N, heads · head size), to the list.

    That is what the layer hands to its output projection.
    """
    outputs: list[Tensor] = []
    handles = [layer.output.register_forward_pre_hook(lambda _, inputs: outputs.append(inputs[0])) for layer in layers]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def masked_lm_logits(model: PreTrainedModel, hidden: Tensor) -> Tensor:
    """Vocabulary logits (..., vocab) of hidden states (..., dim), so that masked positions can be computed alone.

    Raises ValueError if the model has no masked-LM head.
    """
    found = ARCHITECTURES.get(model.config.model_type)
    if found is None or not type(model).__name__.endswith("ForMaskedLM"):
        known = sorted(ARCHITECTURES)
        raise ValueError(f"{type(model).__name__} has no masked-LM head that is known here; known: {known}")
    for name in found.masked_lm:
        hidden = attrgetter(name)(model)(hidden)
    return hidden


def position_offset(config: PretrainedConfig) -> int:
    """Rows of the position table that come before the first position."""
    found = ARCHITECTURES.get(config.model_type)
    # RoBERTa's kin, such as XLM-R, can be scored though no student can be made of them.
    follows = "roberta" in config.model_type if found is None else found.positions_follow_padding
    return int(config.pad_token_id) + 1 if follows else 0


def max_tokens(config: PretrainedConfig) -> int | None:
    """Most tokens that a model has positions for; None where its configuration sets no limit."""
    positions = getattr(config, "max_position_embeddings", None)
    return None if positions is None else int(positions) - position_offset(config)


def require_positions(config: PretrainedConfig, length: int, what: str) -> None:
    """Raise ValueError if inputs of `length` tokens, which `what` asks for, are longer than the model can read."""
    limit = max_tokens(config)
    if limit is not None and length > limit:
        raise ValueError(f"{what}: {length} tokens are more than this {config.model_type} model can read ({limit})")
