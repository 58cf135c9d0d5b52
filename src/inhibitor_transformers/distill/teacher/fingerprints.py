"""Short hashes by which a model, a tokenizer, texts, the data of a task and token sequences are known again.

A run is resumed, and a cache read, with the very same only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ...common.progress import progress, track
from ...tasks import TaskData

# What besides its weights decides what an encoder computes.
_CONFIG_FIELDS = ("model_type", "num_attention_heads", "hidden_act", "activation", "layer_norm_eps", "pad_token_id")
_POOLER = "pooler."  # transformers makes one up where the checkpoint has none, and no hidden state depends on it


@progress("reading the weights")
def encoder_fingerprint(model: PreTrainedModel) -> str:
    """Of the encoder, whatever head the model has on it: what hidden states and attention outputs depend on."""
    encoder = model.base_model
    return _hash_weights(model, {n: t for n, t in encoder.state_dict().items() if not n.startswith(_POOLER)})


@progress("reading the weights")
def model_fingerprint(model: PreTrainedModel) -> str:
    """Of the whole model with its head: what logits depend on."""
    return _hash_weights(model, model.state_dict())


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """Of the vocabulary and the special tokens."""
    vocabulary = sorted(tokenizer.get_vocab().items())
    return _hash([json.dumps([vocabulary, tokenizer.all_special_ids]).encode()])


def fingerprint(values: Iterable[Any]) -> str:
    """Of texts or other plain values in their order: number and hash."""
    digest, count = hashlib.blake2b(digest_size=8), 0
    for value in values:
        digest.update(f"{value!r}\n".encode("utf-8", "backslashreplace"))
        count += 1
    return f"{count}, {digest.hexdigest()}"


def data_fingerprint(data: TaskData) -> dict[str, Any]:
    """Of the examples of a task: the names of its classes, and the number and hash of every split."""
    columns = (*data.task.text_columns, data.task.label_column)
    splits = {"train": data.train, **data.evaluation}
    found: dict[str, Any] = {"classes": list(data.task.label_names)}
    for split, examples in splits.items():
        entries = track(examples.select_columns(list(columns)), "taking fingerprints", unit="examples")
        found[split] = fingerprint(tuple(entry[name] for name in columns) for entry in entries)
    return found


def sequences_fingerprint(sequences: Sequence[Any]) -> str:
    """Of token sequences in their order: number and hash."""
    arrays = (np.asarray(sequence, dtype=np.int64) for sequence in sequences)
    return f"{len(sequences)}-{_hash(part for a in arrays for part in (a.size.to_bytes(4), a.tobytes()))}"


def _hash_weights(model: PreTrainedModel, state: dict[str, torch.Tensor]) -> str:
    ours = sorted(name for name in vars(model.config) if name.startswith("inhibitor_"))
    fields = [f"{name}={getattr(model.config, name, None)!r}".encode() for name in (*_CONFIG_FIELDS, *ours)]
    weights = (
        part
        for name, tensor in sorted(state.items())
        for part in (f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), _bytes(tensor))
    )
    return _hash([*fields, *weights])


def _bytes(tensor: torch.Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _hash(parts: Iterable[bytes]) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
