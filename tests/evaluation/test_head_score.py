"""Each head gets its own measure, from a folder of data and the model's preprocessor."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import ASTFeatureExtractor, BertConfig, BertModel, ViTImageProcessorPil, WhisperFeatureExtractor

from inhibitor_transformers.evaluation import head_score
from inhibitor_transformers.evaluation.accuracy import accuracy
from inhibitor_transformers.evaluation.causal_lm import perplexity
from inhibitor_transformers.evaluation.head_score import Measure, head_of, score_head
from inhibitor_transformers.tasks.modalities import MaskedTokens, PackedText, TextExamples, draw, in_batches
from tests.evaluation.heads import SIZES, ast, bert, gpt2, vit, whisper
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


def test_decoders_have_a_perplexity(tmp_path: Path) -> None:
    write_parquet(tmp_path / "validation.parquet", text=sentences(40))
    tokenizer = word_tokenizer(causal=True)
    expected = perplexity(gpt2(), in_batches(PackedText(sentences(40), tokenizer, 16), 100))
    measure = score_head(gpt2(), tokenizer, tmp_path, length=16)
    assert measure == Measure("perplexity", pytest.approx(expected, rel=1e-5), True)


def test_masked_language_models_have_an_accuracy_of_hidden_tokens(tmp_path: Path) -> None:
    write_parquet(tmp_path / "validation.parquet", text=sentences(40))
    model, tokenizer = bert(), word_tokenizer(causal=False)
    chosen = draw(TextExamples(sentences(40), tokenizer, 16), 10, seed=3)
    expected = accuracy(model, in_batches(MaskedTokens(chosen, tokenizer, seed=3), 100))
    measure = score_head(model, tokenizer, tmp_path, length=16, max_examples=10, seed=3)
    assert measure == Measure("masked-token accuracy", expected)


def test_classifiers_of_images_and_sound_have_an_accuracy(tmp_path: Path) -> None:
    images, sounds = as_files([png(i) for i in range(6)]), as_files([wav(tone(i)) for i in range(6)])
    labels = [0, 1, 2, 0, 1, 2]
    write_parquet(tmp_path / "images" / "test.parquet", image=images, label=labels)
    write_parquet(tmp_path / "sounds" / "test.parquet", audio=sounds, label=labels)
    cases: list[tuple[Any, Any, str]] = [
        (vit(), ViTImageProcessorPil(size={"height": SIDE, "width": SIDE}), "images"),
        (ast(), ASTFeatureExtractor(sampling_rate=RATE, num_mel_bins=8, max_length=16), "sounds"),
    ]
    for model, preprocessor, folder in cases:
        assert head_of(model) == "classes"
        measure = score_head(model, preprocessor, tmp_path / folder, split="test")
        batch = head_score.load_examples(tmp_path / folder, preprocessor, split="test").batch(range(6))
        with torch.no_grad():
            predicted = model(**{k: v for k, v in batch.items() if k != "labels"}).logits.argmax(-1).tolist()
        expected = sum(a == b for a, b in zip(predicted, labels, strict=True)) / 6
        assert measure == Measure("accuracy", expected)


def test_speech_has_a_word_error_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_parquet(tmp_path / "test.parquet", audio=as_files([wav(tone(i)) for i in range(4)]), label=[5, 6, 0, 1])
    said = iter([["5.", "Six, six", "You know", "one"]])
    tokenizer = SimpleNamespace(batch_decode=lambda ids, skip_special_tokens: next(said))
    processor = SimpleNamespace(feature_extractor=WhisperFeatureExtractor(feature_size=80), tokenizer=tokenizer)
    measure = score_head(whisper(20), processor, tmp_path, split="test")
    assert measure == Measure("word error rate", 3 / 4, True)


def test_data_without_labels(tmp_path: Path) -> None:
    write_parquet(tmp_path / "test.parquet", image=as_files([png(0)]))
    with pytest.raises(ValueError, match="no label column, so there is no accuracy"):
        score_head(vit(), ViTImageProcessorPil(size={"height": SIDE, "width": SIDE}), tmp_path, split="test")


def test_a_subclass_has_the_head_of_its_base() -> None:
    class Student(type(gpt2())):  # type: ignore[misc]
        pass

    assert head_of(Student(gpt2().config)) == "causal"
    assert head_of(bert()) == "masked"


def test_a_model_without_a_head() -> None:
    with pytest.raises(ValueError, match="BertModel has no head that can be measured"):
        head_of(BertModel(BertConfig(vocab_size=8, **SIZES)))
