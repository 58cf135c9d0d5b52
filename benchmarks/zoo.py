"""Tiny models of many architectures with random weights, and an example of the inputs of each.

What `convert` is tried on: by `benchmarks/support.py`, which writes the table of supported architectures, and by the
tests of conversion. None is built before it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import transformers
from torch import Tensor
from transformers import PreTrainedModel

VOCAB, WIDTH, LAYERS, HEADS = 100, 32, 2, 4
BATCH, LENGTH = 3, 9

Inputs = dict[str, Any]


class Architecture(NamedTuple):
    """title: as a table names it. prefix: of its classes in transformers. head: of the class that is converted.

    fields: of its configuration, those that make it tiny. inputs: a padded batch. config: the class of the
    configuration where it has another prefix.
    """

    title: str
    prefix: str
    head: str
    fields: Callable[[], dict[str, Any]]
    inputs: Callable[[], Inputs]
    config: str = ""

    def build(self, head: str | None = None, **fields: Any) -> Any:
        """A model in evaluation mode with random weights; `head` such as "ForCausalLM", or "Model"."""
        kind = getattr(transformers, self.prefix + (self.head if head is None else head))
        config = getattr(transformers, self.config or f"{self.prefix}Config")(**(self.fields() | fields))
        if getattr(config, "pad_token_id", 0) is None:
            config.pad_token_id = 0
        return randomized(kind(config))


@torch.no_grad()
def randomized(model: PreTrainedModel) -> Any:
    """Every parameter moved, so that one that is lost, left at its start or misplaced changes the outputs."""
    for parameter in model.parameters():
        if parameter.requires_grad:  # else it is a table of sines, which no file holds
            parameter += 0.1 * torch.randn_like(parameter)
    return model.eval()


def padded(batch: int = BATCH, length: int = LENGTH, *, left: bool = False) -> dict[str, Tensor]:
    """input_ids and attention_mask, (batch, length); sequence i is 2 i tokens shorter than the longest."""
    ids = torch.randint(5, VOCAB, (batch, length))
    lengths = (length - 2 * torch.arange(batch))[:, None]
    position = torch.arange(length).flip(0) if left else torch.arange(length)
    mask = (position < lengths).long()
    return {"input_ids": ids.masked_fill(mask == 0, 0), "attention_mask": mask}


def encoder_decoder() -> Inputs:
    return padded() | {f"decoder_{name}": t for name, t in padded(length=7).items()}


def pictures(size: int = 16) -> Inputs:
    return {"pixel_values": torch.randn(BATCH, 3, size, size)}


def waves() -> Inputs:
    mask = torch.ones(BATCH, 800, dtype=torch.long)
    mask[1, 500:] = 0
    return {"input_values": torch.randn(BATCH, 800), "attention_mask": mask}


def captioned() -> Inputs:
    return padded() | pictures()


def with_pictures(token: int, count: int) -> Callable[[], Inputs]:
    """Texts that begin with the placeholders of a picture."""

    def inputs() -> Inputs:
        found = padded(length=count + 5)
        found["input_ids"] = torch.randint(5, token, found["input_ids"].shape) * found["attention_mask"]
        found["input_ids"][:, :count] = token
        found["attention_mask"][:, :count] = 1
        return found | pictures()

    return inputs


def long_text(batch: int = 2, length: int = 16) -> Inputs:
    return padded(batch, length)


def series() -> Inputs:
    length = 10 + 3  # the context and the largest lag
    return {
        "past_values": torch.rand(BATCH, length),
        "past_time_features": torch.rand(BATCH, length, 2),
        "past_observed_mask": torch.ones(BATCH, length),
        "future_values": torch.rand(BATCH, 4),
        "future_time_features": torch.rand(BATCH, 4, 2),
    }


def whisper() -> Inputs:
    return {"input_features": torch.randn(BATCH, 8, 40), "decoder_input_ids": padded(length=5)["input_ids"]}


def bert(**more: Any) -> Callable[[], dict[str, Any]]:
    """Fields of BERT's, which most encoders share."""
    return lambda: {
        "vocab_size": VOCAB,
        "hidden_size": WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": 48,
        "max_position_embeddings": 64,
        **more,
    }


def decoder(**more: Any) -> Callable[[], dict[str, Any]]:
    """Fields of Llama's, which most decoders share."""
    groups = {"num_key_value_heads": 2, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    return bert(**(groups | more))


def seq2seq(**more: Any) -> Callable[[], dict[str, Any]]:
    """Fields of BART's."""
    sides = {"layers": LAYERS, "attention_heads": HEADS, "ffn_dim": 48}
    fields = {f"{side}_{name}": value for side in ("encoder", "decoder") for name, value in sides.items()}
    tokens = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2}
    sizes = {"vocab_size": VOCAB, "d_model": WIDTH, "max_position_embeddings": 64, "forced_eos_token_id": None}
    return lambda: fields | tokens | sizes | more


def t5(**more: Any) -> Callable[[], dict[str, Any]]:
    sizes = {"vocab_size": VOCAB, "d_model": WIDTH, "d_kv": 8, "d_ff": 48, "num_layers": LAYERS, "num_heads": HEADS}
    buckets = {"relative_attention_num_buckets": 8, "relative_attention_max_distance": 12}
    tokens = {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0}
    return lambda: sizes | buckets | tokens | more


def vision(**more: Any) -> Callable[[], dict[str, Any]]:
    """Fields of ViT's: pictures of 16 × 16 in patches of 4."""
    sizes = {"hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "intermediate_size": 48}
    return lambda: sizes | {"image_size": 16, "patch_size": 4} | more


def speech(**more: Any) -> Callable[[], dict[str, Any]]:
    """Fields of wav2vec 2.0's."""
    filters = {"conv_dim": (WIDTH, WIDTH), "conv_kernel": (10, 4), "conv_stride": (10, 4)}
    positions = {"num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2, "mask_time_prob": 0.0}
    return lambda: bert()() | filters | positions | {"num_feat_extract_layers": 2} | more


def two_towers() -> dict[str, Any]:
    return {"text_config": bert(eos_token_id=2)(), "vision_config": vision()(), "projection_dim": 16}


def llava() -> dict[str, Any]:
    seen = {"model_type": "clip_vision_model", **vision(projection_dim=16)()}
    return {
        "vision_config": transformers.CLIPVisionConfig(**{k: v for k, v in seen.items() if k != "model_type"}),
        "text_config": transformers.LlamaConfig(**decoder()()),
        "image_token_index": 98,
        "vision_feature_layer": -1,
    }


def whisper_fields() -> dict[str, Any]:
    sizes = {"num_mel_bins": 8, "max_source_positions": 20, "max_target_positions": 32}
    return seq2seq(**sizes, suppress_tokens=None, begin_suppress_tokens=None)()


def time_series() -> dict[str, Any]:
    lengths = {"prediction_length": 4, "context_length": 10, "lags_sequence": [1, 2, 3], "num_time_features": 2}
    return seq2seq()() | lengths


_TABLE = (
    # encoders of text
    Architecture("BERT", "Bert", "ForMaskedLM", bert(), padded),
    Architecture("RoBERTa", "Roberta", "ForMaskedLM", bert(pad_token_id=0), padded),
    Architecture("XLM-R", "XLMRoberta", "ForMaskedLM", bert(pad_token_id=0), padded),
    Architecture("ELECTRA", "Electra", "ForMaskedLM", bert(embedding_size=16), padded),
    Architecture(
        "DistilBERT",
        "DistilBert",
        "ForMaskedLM",
        lambda: {"vocab_size": VOCAB, "dim": WIDTH, "n_layers": LAYERS, "n_heads": HEADS, "hidden_dim": 48},
        padded,
    ),
    Architecture("ALBERT", "Albert", "ForMaskedLM", bert(embedding_size=16, num_hidden_layers=3), padded),
    Architecture("ESM", "Esm", "ForMaskedLM", bert(position_embedding_type="rotary", pad_token_id=0), padded),
    Architecture(
        "ModernBERT",
        "ModernBert",
        "ForMaskedLM",
        bert(local_attention=4, num_hidden_layers=3, global_attn_every_n_layers=3, pad_token_id=0),
        padded,
    ),
    Architecture("MPNet", "MPNet", "ForMaskedLM", bert(pad_token_id=0), padded),
    Architecture(
        "DeBERTa-v2",
        "DebertaV2",
        "ForMaskedLM",
        bert(relative_attention=True, position_buckets=4, pos_att_type=["p2c", "c2p"]),
        padded,
    ),
    Architecture(
        "XLNet",
        "XLNet",
        "LMHeadModel",
        lambda: {"vocab_size": VOCAB, "d_model": WIDTH, "n_layer": LAYERS, "n_head": HEADS, "d_inner": 48},
        padded,
    ),
    Architecture("Longformer", "Longformer", "ForMaskedLM", bert(attention_window=[4, 4], pad_token_id=0), long_text),
    Architecture(
        "Funnel",
        "Funnel",
        "ForMaskedLM",
        lambda: {
            "vocab_size": VOCAB,
            "d_model": WIDTH,
            "n_head": HEADS,
            "d_head": 8,
            "d_inner": 48,
            "block_sizes": [1, 1],
        },
        padded,
    ),
    # decoders of text
    Architecture(
        "GPT-2",
        "GPT2",
        "LMHeadModel",
        lambda: {
            "vocab_size": VOCAB,
            "n_embd": WIDTH,
            "n_layer": LAYERS,
            "n_head": HEADS,
            "n_positions": 64,
            "bos_token_id": 1,
            "eos_token_id": 2,
        },
        padded,
    ),
    Architecture("Llama", "Llama", "ForCausalLM", decoder(), padded),
    Architecture("Mistral (sliding window)", "Mistral", "ForCausalLM", decoder(sliding_window=4), padded),
    Architecture("Qwen2", "Qwen2", "ForCausalLM", decoder(), padded),
    Architecture("Qwen3", "Qwen3", "ForCausalLM", decoder(head_dim=8), padded),
    Architecture("Gemma 2", "Gemma2", "ForCausalLM", decoder(head_dim=8, sliding_window=4), padded),
    Architecture(
        "Gemma 3",
        "Gemma3",
        "ForCausalLM",
        decoder(head_dim=8, sliding_window=4, layer_types=["sliding_attention", "full_attention"]),
        padded,
        "Gemma3TextConfig",
    ),
    Architecture("Phi", "Phi", "ForCausalLM", decoder(), padded),
    Architecture(
        "OPT",
        "OPT",
        "ForCausalLM",
        bert(ffn_dim=48, word_embed_proj_dim=WIDTH, pad_token_id=0, bos_token_id=1, eos_token_id=2),
        padded,
    ),
    Architecture(
        "GPT-Neo",
        "GPTNeo",
        "ForCausalLM",
        lambda: {
            "vocab_size": VOCAB,
            "hidden_size": WIDTH,
            "num_layers": LAYERS,
            "num_heads": HEADS,
            "attention_types": [[["global", "local"], 1]],
            "window_size": 4,
            "max_position_embeddings": 64,
            "bos_token_id": 1,
            "eos_token_id": 2,
        },
        padded,
    ),
    Architecture("GPT-NeoX", "GPTNeoX", "ForCausalLM", bert(bos_token_id=1, eos_token_id=2), padded),
    Architecture(
        "gpt-oss",
        "GptOss",
        "ForCausalLM",
        decoder(head_dim=8, sliding_window=4, num_local_experts=4, num_experts_per_tok=2),
        padded,
    ),
    Architecture("Mixtral", "Mixtral", "ForCausalLM", decoder(num_local_experts=4), padded),
    Architecture(
        "BLOOM",
        "Bloom",
        "ForCausalLM",
        lambda: {"vocab_size": VOCAB, "hidden_size": WIDTH, "n_layer": LAYERS, "n_head": HEADS, "pad_token_id": 0},
        padded,
    ),
    Architecture("Falcon", "Falcon", "ForCausalLM", bert(bos_token_id=1, eos_token_id=2), padded),
    Architecture(
        "MPT",
        "Mpt",
        "ForCausalLM",
        lambda: {"vocab_size": VOCAB, "d_model": WIDTH, "n_layers": LAYERS, "n_heads": HEADS, "max_seq_len": 64},
        padded,
    ),
    # from text or speech to text
    Architecture("T5", "T5", "ForConditionalGeneration", t5(), encoder_decoder),
    Architecture("BART", "Bart", "ForConditionalGeneration", seq2seq(), encoder_decoder),
    Architecture("Marian", "Marian", "MTModel", seq2seq(), encoder_decoder),
    Architecture("Whisper", "Whisper", "ForConditionalGeneration", whisper_fields, whisper),
    # pictures
    Architecture("ViT", "ViT", "ForImageClassification", vision(), pictures),
    Architecture("DeiT", "DeiT", "ForImageClassification", vision(), pictures),
    Architecture("DINOv2", "Dinov2", "ForImageClassification", vision(mlp_ratio=2), pictures),
    Architecture("BEiT", "Beit", "ForImageClassification", vision(use_relative_position_bias=True), pictures),
    Architecture(
        "Swin",
        "Swin",
        "ForImageClassification",
        lambda: {
            "image_size": 32,
            "patch_size": 4,
            "embed_dim": 16,
            "depths": [2, 2],
            "num_heads": [2, 4],
            "window_size": 4,
        },
        lambda: pictures(32),
    ),
    # pictures and text
    Architecture("CLIP", "CLIP", "Model", two_towers, captioned),
    Architecture(
        "SigLIP", "Siglip", "Model", lambda: {k: two_towers()[k] for k in ("text_config", "vision_config")}, captioned
    ),
    Architecture("LLaVA", "Llava", "ForConditionalGeneration", llava, with_pictures(98, 16)),
    # speech and other sequences
    Architecture(
        "AST",
        "AST",
        "ForAudioClassification",
        lambda: vision(max_length=24, num_mel_bins=16, frequency_stride=8, time_stride=8, patch_size=8)(),
        lambda: {"input_values": torch.randn(BATCH, 24, 16)},
    ),
    Architecture("wav2vec 2.0", "Wav2Vec2", "ForCTC", speech(vocab_size=30), waves),
    Architecture("HuBERT", "Hubert", "ForSequenceClassification", speech(classifier_proj_size=16), waves),
    Architecture("Time Series Transformer", "TimeSeriesTransformer", "ForPrediction", time_series, series),
)
ARCHITECTURES = {architecture.prefix: architecture for architecture in _TABLE}
