r"""Trains a small decoder, and its byte-level BPE tokenizer, on WikiText-2: the teacher of a causal student.

python experiments/teachers/causal_lm.py gpt2 --output runs/teachers/gpt2 --data ../shared/data/wikitext-2

`gpt2` has learned positions; `llama` rotary ones, RMSNorm and grouped heads (4 of queries, 2 of keys); `llama-window`
is the same with a sliding window of 64 tokens, and may start from the weights of the former:

python experiments/teachers/causal_lm.py llama-window --init-from runs/teachers/llama --steps 400 \
    --output runs/teachers/llama-window

All are 6 layers × 256 wide, with a context of 256 tokens and without dropout: few epochs do not overfit. Training takes
about 20 minutes on one core that multiplies bfloat16.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from metric import write_metric
from tokenizers import ByteLevelBPETokenizer
from training import Batch, parser, train
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from inhibitor_transformers.cli.options import quiet
from inhibitor_transformers.tasks import load_texts, split_held_out

CONTEXT, WIDTH, LAYERS, HEADS, KEY_HEADS, WINDOW = 256, 256, 6, 4, 2, 64
VOCABULARY = 4096
END, UNKNOWN, PADDING = "<|endoftext|>", "<unk>", "<pad>"


def train_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """Byte-level BPE as GPT-2's, with WikiText's "<unk>" as one token and a padding token of its own."""
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(texts, VOCABULARY, special_tokens=[END, UNKNOWN, PADDING], show_progress=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe._tokenizer,
        bos_token=END,
        eos_token=END,
        unk_token=UNKNOWN,
        pad_token=PADDING,
        model_max_length=CONTEXT,
        padding_side="left",  # as `generate` needs it
    )


def build(name: str, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    common: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "tie_word_embeddings": True,
        "attn_implementation": "eager",  # for 256 tokens in bfloat16, a quarter faster than SDPA on a CPU
    }
    if name == "gpt2":
        sizes = {"n_positions": CONTEXT, "n_embd": WIDTH, "n_layer": LAYERS, "n_head": HEADS}
        no_dropout = {"attn_pdrop": 0.0, "resid_pdrop": 0.0, "embd_pdrop": 0.0}
        return GPT2LMHeadModel(GPT2Config(**common, **sizes, **no_dropout))
    common |= {"hidden_size": WIDTH, "num_hidden_layers": LAYERS, "intermediate_size": 768, "rope_theta": 10_000.0}
    common |= {"num_attention_heads": HEADS, "num_key_value_heads": KEY_HEADS, "max_position_embeddings": CONTEXT}
    if name == "llama":
        return LlamaForCausalLM(LlamaConfig(**common))
    return MistralForCausalLM(MistralConfig(**common, sliding_window=WINDOW))


def token_stream(texts: list[str], tokenizer: PreTrainedTokenizerFast) -> np.ndarray:
    """The ids of all texts in their order, each followed by the end token: (tokens,) int64."""
    ids = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    return np.concatenate([np.asarray([*text, tokenizer.eos_token_id], dtype=np.int64) for text in ids])


def main() -> None:
    made = parser(__doc__, steps=2600, batch_size=8, learning_rate=1.5e-3)
    made.add_argument("model", choices=["gpt2", "llama", "llama-window"])
    made.add_argument("--init-from", type=Path, help="a folder with weights of the same names and shapes")
    made.add_argument("--data", type=Path, default=Path("../shared/data/wikitext-2"))
    options = made.parse_args()
    quiet(1)
    torch.manual_seed(options.seed)
    texts = load_texts(options.data / "train.parquet", shuffle=False, unk_token=UNKNOWN)
    texts = split_held_out(texts)[0]
    tokenizer = train_tokenizer(texts)
    model = build(options.model, tokenizer)
    if options.init_from:
        model.load_state_dict(type(model).from_pretrained(options.init_from).state_dict())
    stream = token_stream(texts, tokenizer)
    print(f"{model.num_parameters():,} parameters, {len(stream):,} tokens to train on", flush=True)

    def batch_of(step: int) -> Batch:
        starts = np.random.default_rng([options.seed, step]).integers(0, len(stream) - CONTEXT, options.batch_size)
        ids = torch.from_numpy(np.stack([stream[start : start + CONTEXT] for start in starts]))
        return {"input_ids": ids, "labels": ids}

    train(model, batch_of, options)
    model.save_pretrained(options.output)
    tokenizer.save_pretrained(options.output)
    write_metric(options.output, model, tokenizer, options.data, "validation", length=CONTEXT)


if __name__ == "__main__":
    main()
