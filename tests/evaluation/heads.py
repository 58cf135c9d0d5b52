"""Tiny models with heads, in evaluation mode, far enough from zero that their answers differ."""

from __future__ import annotations

import torch
from transformers import (
    ASTConfig,
    ASTForAudioClassification,
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    ViTConfig,
    ViTForImageClassification,
    WhisperConfig,
    WhisperForConditionalGeneration,
)

from tests.tasks.modalities.tiny import SIDE, WORDS

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
VOCABULARY = len(WORDS) + 3  # <pad>, <unk>, <end>
PAD, END = 0, 2


def gpt2(seed: int = 0, *, end: int | None = None) -> GPT2LMHeadModel:
    """A decoder of the words of `word_tokenizer(causal=True)`; `end` is the token that ends what it generates."""
    torch.manual_seed(seed)
    sizes = {"n_positions": 64, "n_embd": 16, "n_layer": 2, "n_head": 2, "initializer_range": 0.5}
    tokens = {"bos_token_id": None, "eos_token_id": end, "pad_token_id": PAD}
    return GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, **sizes, **tokens)).eval()


def bert() -> BertForMaskedLM:
    config = BertConfig(vocab_size=len(WORDS) + 5, max_position_embeddings=32, initializer_range=0.5, **SIZES)
    return BertForMaskedLM(config).eval()


def vit() -> ViTForImageClassification:
    config = ViTConfig(image_size=SIDE, patch_size=4, num_labels=3, initializer_range=0.5, **SIZES)
    return ViTForImageClassification(config).eval()


def ast() -> ASTForAudioClassification:
    sizes = {"patch_size": 8, "time_stride": 8, "frequency_stride": 8, "num_mel_bins": 8, "max_length": 16}
    return ASTForAudioClassification(ASTConfig(num_labels=3, initializer_range=0.5, **sizes, **SIZES)).eval()


def whisper(vocabulary: int) -> WhisperForConditionalGeneration:
    sides = {f"{s}_{n}": v for s in ("encoder", "decoder") for n, v in {"layers": 1, "attention_heads": 2}.items()}
    tokens = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2, "decoder_start_token_id": 1}
    config = WhisperConfig(
        vocab_size=vocabulary, d_model=16, encoder_ffn_dim=16, decoder_ffn_dim=16, init_std=0.5, **sides, **tokens
    )
    return WhisperForConditionalGeneration(config).eval()
