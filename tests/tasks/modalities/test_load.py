"""The preprocessor of a folder decides what a split becomes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from transformers import ASTFeatureExtractor, ViTImageProcessorPil

from inhibitor_transformers.tasks.modalities import (
    AudioExamples,
    ImageExamples,
    PackedText,
    TextExamples,
    load_examples,
    load_preprocessor,
)
from tests.evaluation.heads import ast, bert, gpt2, vit
from tests.tasks.modalities.tiny import (
    RATE,
    SIDE,
    as_files,
    png,
    sentences,
    tone,
    wav,
    word_tokenizer,
    write_parquet,
)


def test_from_a_model_folder_to_a_forward(tmp_path: Path) -> None:
    write_parquet(tmp_path / "text" / "train.parquet", text=sentences(20))
    write_parquet(
        tmp_path / "image" / "train.parquet", image=as_files([png(i) for i in range(3)]), label=["a", "b", "a"]
    )
    write_parquet(tmp_path / "audio" / "train.parquet", audio=as_files([wav(tone(i)) for i in range(3)]))
    cases = {
        "decoder": (gpt2(), word_tokenizer(causal=True), "text", PackedText),
        "encoder": (bert(), word_tokenizer(causal=False), "text", TextExamples),
        "vit": (vit(), ViTImageProcessorPil(size={"height": SIDE, "width": SIDE}), "image", ImageExamples),
        "ast": (ast(), ASTFeatureExtractor(sampling_rate=RATE, num_mel_bins=8, max_length=16), "audio", AudioExamples),
    }
    for name, (model, preprocessor, data, kind) in cases.items():
        model.save_pretrained(tmp_path / name)
        preprocessor.save_pretrained(tmp_path / name)
        loaded = load_preprocessor(tmp_path / name)
        packed, ids = name == "decoder", {"a": 2, "b": 1}
        examples = load_examples(tmp_path / data, loaded, length=16, packed=packed, label2id=ids)
        assert type(examples) is kind
        batch = examples.batch([0, 1])
        assert model(**batch).logits.shape[0] == 2
    assert load_examples(tmp_path / "image", load_preprocessor(tmp_path / "vit"), label2id=ids).batch([0, 1])[
        "labels"
    ].tolist() == [2, 1]


def test_a_folder_without_a_preprocessor(tmp_path: Path) -> None:
    vit().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="no tokenizer, image processor or feature extractor found in"):
        load_preprocessor(tmp_path)


def test_a_modality_that_is_not_known() -> None:
    with pytest.raises(ValueError, match="a preprocessor that makes 'pixel_values_videos' is for no modality"):
        load_examples("data", SimpleNamespace(model_input_names=["pixel_values_videos"]))
