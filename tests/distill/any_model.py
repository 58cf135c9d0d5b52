"""Tiny random teachers of many architectures on disk, each with what prepares its inputs."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from scipy.io import wavfile
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AlbertConfig,
    AlbertForMaskedLM,
    ASTConfig,
    ASTFeatureExtractor,
    ASTForAudioClassification,
    BartConfig,
    BartForConditionalGeneration,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    SwinConfig,
    SwinForImageClassification,
    T5Config,
    T5ForConditionalGeneration,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)

from tests.distill.tiny import VOCABULARY, bert_tokenizer

_SIZES = {
    "vocab_size": len(VOCABULARY),
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "initializer_range": 0.25,
}
_SPECIAL = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
_T5 = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0}
_BART = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4} | {
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 160,
    "init_std": 0.25,
    "decoder_start_token_id": 3,
    "forced_eos_token_id": None,
}
_VIT = {"image_size": 16, "patch_size": 4, "num_labels": 3} | {n: v for n, v in _SIZES.items() if n != "vocab_size"}
_SWIN = {"image_size": 32, "patch_size": 4, "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4}
_WHISPER = {"num_mel_bins": 16, "max_source_positions": 50, "d_model": 32, "init_std": 0.25} | {
    f"{side}_{name}": value
    for side in ("encoder", "decoder")
    for name, value in {"layers": 2, "attention_heads": 4, "ffn_dim": 48}.items()
}
_AST = {"max_length": 32, "num_mel_bins": 16, "patch_size": 8, "frequency_stride": 8, "time_stride": 8}

_MAKERS: dict[str, Callable[[], PreTrainedModel]] = {
    "llama": lambda: LlamaForCausalLM(
        LlamaConfig(**_SIZES, **_SPECIAL, num_key_value_heads=2, max_position_embeddings=160)
    ),
    "gpt2": lambda: GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(VOCABULARY),
            n_embd=32,
            n_layer=2,
            n_head=4,
            n_positions=160,
            initializer_range=0.25,
            **_SPECIAL,
        )
    ),
    "albert": lambda: AlbertForMaskedLM(AlbertConfig(**_SIZES, **_SPECIAL, embedding_size=16, inner_group_num=1)),
    "t5": lambda: T5ForConditionalGeneration(T5Config(vocab_size=len(VOCABULARY), **_T5)),
    "bart": lambda: BartForConditionalGeneration(BartConfig(vocab_size=len(VOCABULARY), **_SPECIAL, **_BART)),
    "vit": lambda: ViTForImageClassification(ViTConfig(**_VIT)),
    "swin": lambda: SwinForImageClassification(SwinConfig(**_SWIN, num_labels=3)),
    "ast": lambda: ASTForAudioClassification(
        ASTConfig(**_AST, **{n: v for n, v in _SIZES.items() if n != "vocab_size"}, num_labels=3)
    ),
    "whisper": lambda: WhisperForConditionalGeneration(
        WhisperConfig(
            vocab_size=30,
            decoder_start_token_id=2,
            begin_suppress_tokens=None,
            suppress_tokens=None,
            **_SPECIAL,
            **_WHISPER,
        )
    ),
}
OF_TEXT = ("llama", "gpt2", "albert", "t5", "bart")


def decoder_tokenizer() -> PreTrainedTokenizerFast:
    """Words of `VOCABULARY`, without special tokens around a text and without a padding token."""
    words = Tokenizer(models.WordLevel({token: i for i, token in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(single="$A", pair="$A $B", special_tokens=[])
    return PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]", bos_token="[CLS]", eos_token="[SEP]")


def make(kind: str) -> PreTrainedModel:
    """A random model whose attention differs between pairs, without dropout."""
    torch.manual_seed(0)
    model = _MAKERS[kind]().eval()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model


def preprocessor_for(kind: str) -> Any:
    if kind in ("vit", "swin"):
        side = 16 if kind == "vit" else 32
        return ViTImageProcessor(size={"height": side, "width": side})
    if kind == "ast":
        return ASTFeatureExtractor(num_mel_bins=16, max_length=32, mean=0.0, std=1.0)
    if kind == "whisper":
        return WhisperFeatureExtractor(feature_size=16, chunk_length=1)
    return decoder_tokenizer() if kind in ("llama", "gpt2") else bert_tokenizer()


def saved_teacher(kind: str, folder: Path) -> str:
    """Model and preprocessor in `folder`; returns its path."""
    make(kind).save_pretrained(folder)
    preprocessor_for(kind).save_pretrained(folder)
    return str(folder)


def image_folder(folder: Path, count: int = 40) -> str:
    """train.parquet with random PNG images and their labels."""
    from PIL import Image

    random = np.random.default_rng(0)
    rows = []
    for label in range(count):
        file = io.BytesIO()
        Image.fromarray(random.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(file, "PNG")
        rows.append({"image": {"bytes": file.getvalue(), "path": None}, "label": label % 3})
    return _parquet(folder, rows)


def audio_folder(folder: Path, count: int = 30) -> str:
    """train.parquet with random WAV recordings of a third of a second and their labels."""
    random = np.random.default_rng(0)
    rows = []
    for label in range(count):
        file = io.BytesIO()
        wavfile.write(file, 16000, (3000 * random.standard_normal(5600)).astype(np.int16))
        rows.append({"audio": {"bytes": file.getvalue(), "path": None}, "label": label % 3})
    return _parquet(folder, rows)


def _parquet(folder: Path, rows: list[dict[str, Any]]) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "validation"):
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{split}.parquet")
    return str(folder)
