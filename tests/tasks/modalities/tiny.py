"""Tiny images, recordings and texts, encoded as data sets hold them, and preprocessors for them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.io import wavfile
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedTokenizerFast

SIDE, RATE = 8, 8000
WORDS = ("the", "cat", "dog", "sees", "likes", "a", "tree", "house", "and", "big", "old")


def png(seed: int, mode: str = "RGB", size: int = SIDE) -> bytes:
    image = pytest.importorskip("PIL.Image", reason="needs Pillow: pip install 'inhibitor-transformers[images]'")
    file = io.BytesIO()
    image.fromarray(pixels(seed, size)).convert(mode).save(file, format="PNG")
    return file.getvalue()


def pixels(seed: int, size: int = SIDE) -> np.ndarray:
    """(size, size, 3) uint8."""
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


def wav(samples: np.ndarray, rate: int = RATE) -> bytes:
    file = io.BytesIO()
    wavfile.write(file, rate, samples)
    return file.getvalue()


def tone(seed: int, samples: int = 1600) -> np.ndarray:
    """A sine of 200 Hz and more, (samples,) int16."""
    return (8000 * np.sin(2 * np.pi * (200 + 50 * seed) * np.arange(samples) / RATE)).astype(np.int16)


def write_parquet(file: Path, **columns: Sequence[Any]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({name: list(values) for name, values in columns.items()}), file)
    return file


def as_files(contents: Sequence[bytes]) -> list[dict[str, Any]]:
    """As `datasets` stores images and recordings."""
    return [{"bytes": content, "path": f"{i}.bin"} for i, content in enumerate(contents)]


def word_tokenizer(*, causal: bool) -> PreTrainedTokenizerFast:
    """A token per word of WORDS: with an end token for decoders, else with [CLS], [SEP] and [MASK]."""
    special = ["<pad>", "<unk>", "<end>"] if causal else ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {token: i for i, token in enumerate([*special, *WORDS])}
    made = Tokenizer(WordLevel(vocabulary, unk_token=special[1]))
    made.pre_tokenizer = Whitespace()
    if causal:
        return PreTrainedTokenizerFast(
            tokenizer_object=made, pad_token="<pad>", unk_token="<unk>", eos_token="<end>", padding_side="left"
        )
    from tokenizers.processors import TemplateProcessing

    made.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def sentences(count: int, words: int = 6) -> list[str]:
    """Different sentences of so many words."""
    random = np.random.default_rng(0)
    found: dict[str, None] = {}
    while len(found) < count:
        found[" ".join(random.choice(WORDS, words))] = None
    return list(found)
