"""Sentence embeddings from an exported encoder, without torch:

    inhibit export quickstart exported
    pip install onnxruntime tokenizers
    python examples/onnx_embeddings.py exported ["A text." "Another." …]

Where this package is installed, its operator serves, several times as fast as the standard operators that do otherwise.
Prints the cosine similarity of every pair of texts.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

TEXTS = ["A man is playing the guitar.", "Somebody makes music.", "The stock market fell on Monday."]


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer, padding to the longest text of a batch and cutting at what the model can take."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    padding = config["pad_token_id"]
    tokenizer.enable_padding(pad_id=padding, pad_token=tokenizer.id_to_token(padding))
    tokenizer.enable_truncation(config["max_position_embeddings"])
    return tokenizer


def open_session(file: Path) -> onnxruntime.InferenceSession:
    """The exported model, with the operator of inhibitor-transformers if that is installed."""
    options = onnxruntime.SessionOptions()
    try:
        from inhibitor_transformers.deploy.runtimes.onnxruntime_operator import register

        register(options)
    except (ImportError, RuntimeError) as reason:  # it is not installed, or was without a compiler
        print(f"standard operators serve: {reason}", file=sys.stderr)
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def embed(session: onnxruntime.InferenceSession, tokenizer: Tokenizer, texts: list[str]) -> np.ndarray:
    """(texts, dim): the mean of the last hidden states over the tokens of each text, of length one."""
    encodings = tokenizer.encode_batch(texts)
    found = {
        "input_ids": np.array([e.ids for e in encodings], dtype=np.int64),
        "attention_mask": np.array([e.attention_mask for e in encodings], dtype=np.int64),
        "token_type_ids": np.array([e.type_ids for e in encodings], dtype=np.int64),
    }
    (hidden,) = session.run(["last_hidden_state"], {value.name: found[value.name] for value in session.get_inputs()})
    valid = found["attention_mask"][..., None]
    mean = (hidden * valid).sum(1) / valid.sum(1)
    return mean / np.linalg.norm(mean, axis=1, keepdims=True)


def main() -> None:
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    folder, texts = Path(sys.argv[1]), sys.argv[2:] or TEXTS
    embeddings = embed(open_session(folder / "model.onnx"), load_tokenizer(folder), texts)
    for i, row in enumerate(embeddings @ embeddings.T):
        for j, cosine in enumerate(row[:i]):
            print(f"{cosine:6.3f}  {texts[j]!r} {texts[i]!r}")


if __name__ == "__main__":
    main()
