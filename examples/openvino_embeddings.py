"""Sentence embeddings in OpenVINO, without torch and without this package:

    inhibit export quickstart exported --runtime openvino
    pip install openvino tokenizers
    python examples/openvino_embeddings.py exported ["A text." "Another." …]

Prints the cosine similarity of every pair of texts. The operator is taken from the exported folder; it was compiled for
one release of OpenVINO, and for another the model in standard operators serves, several times slower; a quantized model
has none.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import openvino
from tokenizers import Tokenizer

PRECISION = {"INFERENCE_PRECISION_HINT": "f32"}  # the default of processors with bfloat16 is "bf16"
TEXTS = ["A man is playing the guitar.", "Somebody makes music.", "The stock market fell on Monday."]


def load_model(folder: Path) -> openvino.CompiledModel:
    """The model on the processor, with the operator where it can be loaded."""
    core = openvino.Core()
    try:
        core.add_extension(str(folder / "inhibitor_openvino.so"))
    except RuntimeError as reason:
        print(f"without the operator: {reason}", file=sys.stderr)
        standard = folder / "standard.onnx"
        if not standard.exists():
            raise SystemExit(f"{folder} has no {standard.name}: a quantized model needs the operator") from reason
        return core.compile_model(standard, "CPU", PRECISION)
    return core.compile_model(folder / "model.onnx", "CPU", PRECISION)


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer, padding to the longest text of a batch and cutting at what the model can take."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    padding = config["pad_token_id"]
    tokenizer.enable_padding(pad_id=padding, pad_token=tokenizer.id_to_token(padding))
    tokenizer.enable_truncation(config["max_position_embeddings"])
    return tokenizer


def embed(model: openvino.CompiledModel, tokenizer: Tokenizer, texts: list[str]) -> np.ndarray:
    """(texts, dim): the mean of the last hidden states over the tokens of each text, of length one."""
    encodings = tokenizer.encode_batch(texts)
    found = {
        "input_ids": np.array([e.ids for e in encodings], dtype=np.int64),
        "attention_mask": np.array([e.attention_mask for e in encodings], dtype=np.int64),
        "token_type_ids": np.array([e.type_ids for e in encodings], dtype=np.int64),
    }
    names = [value.get_any_name() for value in model.inputs]
    request = model.create_infer_request()
    request.start_async({name: found[name] for name in names})  # infer() on one thread drops errors
    request.wait()
    hidden = request.get_tensor("last_hidden_state").data
    valid = found["attention_mask"][..., None]
    mean = (hidden * valid).sum(1) / valid.sum(1)
    return mean / np.linalg.norm(mean, axis=1, keepdims=True)


def main() -> None:
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    folder, texts = Path(sys.argv[1]), sys.argv[2:] or TEXTS
    embeddings = embed(load_model(folder), load_tokenizer(folder), texts)
    for i, row in enumerate(embeddings @ embeddings.T):
        for j, cosine in enumerate(row[:i]):
            print(f"{cosine:6.3f}  {texts[j]!r} {texts[i]!r}")


if __name__ == "__main__":
    main()
