"""SST-2 as a bag of words: a client looks up the levels of a sentence's most important words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ....tasks.data import load_task
from ....tasks.text import is_held_out
from ..encoders import Encoder, WordEncoder, split_words
from .model import Models
from .task import Split, TrainingTask

VOCABULARY = 6000
INPUTS = 8  # levels of a word
_INPUT_QMAX = 3
_VALIDATION_FRACTION = 0.2  # of the long texts
_LONG = 8  # words: SST-2 trains on phrases, and is tested on sentences
_SHARED_WORDS = 5  # in a row, which no text of training shares with one of validation
_DROPPED = 0.1  # the fraction of words that training leaves out


class Sst2(TrainingTask):
    """data: the folder with the task's files. tokens: words that are kept of a sentence.

    Validation is drawn from the longer texts of the training split, of which many are parts of each other: what shares
    five words in a row with validation is not trained on. The official validation split is the test.
    """

    def __init__(self, data: Path, tokens: int = 8) -> None:
        loaded = load_task("sst2", data)
        texts, labels = list(loaded.train["sentence"]), np.asarray(loaded.train["label"], np.int64)
        train, held = _hold_out(texts)
        self.validation = Split([texts[i] for i in held], labels[held])
        official = loaded.evaluation["validation"]
        self.test = Split(list(official["sentence"]), np.asarray(official["label"], np.int64))
        words, importance = _important_words([texts[i] for i in train], labels[train])
        levels = np.zeros((len(words), INPUTS), np.int64)
        self.encoder: WordEncoder = WordEncoder(words, levels, importance, tokens, _INPUT_QMAX)
        self.labels, self.vocabulary = ("negative", "positive"), len(words)
        self._labels = torch.from_numpy(labels[train])
        self._numbers = torch.from_numpy(self.encoder.numbers([texts[i] for i in train]))

    def batch(self, models: int, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Texts with some words left out."""
        index = torch.randint(len(self._labels), (models, count), generator=generator)
        numbers = self._numbers[index]
        dropped = torch.rand(numbers.shape, generator=generator) < _DROPPED
        return numbers.masked_fill(dropped, -1), self._labels[index]

    def numbers(self, raw: Any) -> np.ndarray:
        """(B, n) numbers of words, −1 for none."""
        return self.encoder.numbers(raw)

    def finish(self, models: Models, model: int) -> Encoder:
        """With the levels of words that the model has learned."""
        old = self.encoder
        return WordEncoder(old.words, models.word_levels(model), old.importance, old.tokens, old.input_qmax)


def _hold_out(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the texts for training and for validation."""
    words = [text.split() for text in texts]
    held = {i for i, w in enumerate(words) if len(w) >= _LONG and is_held_out(texts[i], _VALIDATION_FRACTION)}
    taken = {gram for i in held for gram in _grams(words[i])}
    train = [i for i, w in enumerate(words) if i not in held and taken.isdisjoint(_grams(w))]
    return np.array(train), np.array(sorted(held))


def _grams(words: list[str]) -> Iterable[tuple[str, ...]]:
    return zip(*(words[i:] for i in range(_SHARED_WORDS)), strict=False)


def _important_words(texts: list[str], labels: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
    """The words of a linear classifier that carry the greatest weights, and these weights."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    counter = CountVectorizer(analyzer=_distinct, min_df=3, binary=True)
    counts = counter.fit_transform(texts)
    weights = np.abs(LogisticRegression(C=1.0, max_iter=300).fit(counts, labels).coef_[0])
    frequent = np.asarray(counts.sum(0))[0]
    # Weights of rare words are noisy, and a word that is never met is a row of levels for nothing.
    chosen = np.argsort(-weights * np.sqrt(frequent), kind="stable")[:VOCABULARY]
    names = counter.get_feature_names_out()
    return tuple(str(names[i]) for i in chosen), weights[chosen].astype(np.float64)


def _distinct(text: str) -> list[str]:
    return list(Counter(split_words(text)))
