"""What clients make of images and sentences before they encrypt."""

from __future__ import annotations

import json

import numpy as np
import pytest

from inhibitor_transformers.deploy.encrypted.encoders import (
    PixelEncoder,
    WordEncoder,
    encoder_from_state,
    split_words,
)

PIXELS = PixelEncoder(np.array([[0, 3], [1, 2]]), highest=16, input_qmax=3)
WORDS = WordEncoder(
    ("good", "n't", "bad", "film", "dull"),
    np.array([[3, 0], [1, 1], [0, 3], [1, 2], [0, 2]]),
    np.array([2.0, 1.5, 3.0, 0.1, 1.0]),
    tokens=3,
    input_qmax=3,
)


def test_pixels_are_quantized_in_equal_steps_and_put_in_order():
    x = PIXELS.encode([[[0, 4.25], [8.5, 16]], [[4.2, 8, 12.75, 15.9][:2], [12.75, 15.9]]])
    assert x.dtype == np.int64
    assert x.tolist() == [[[0, 3], [1, 2]], [[0, 3], [1, 3]]]
    assert PIXELS.encode(np.zeros((0, 4))).shape == (0, 2, 2)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("word", "must be an array of numbers"),
        ([[1, 2], [3]], "must be an array of numbers"),
        (np.zeros(4), "must have 4 pixels each"),
        (np.zeros((2, 5)), "must have 4 pixels each"),
        (np.full((1, 4), -1), r"must lie in \[0, 16\]"),
        (np.full((1, 4), 16.5), r"must lie in \[0, 16\]"),
        (np.full((1, 4), np.nan), r"must lie in \[0, 16\]"),
    ],
)
def test_images_that_are_wrong_are_refused(raw, message):
    with pytest.raises(ValueError, match=message):
        PIXELS.encode(raw)


def test_the_most_important_words_are_kept_in_their_order_and_once():
    x = WORDS.encode(["A good film, GOOD but dull and bad.", "It is n't", ""])
    assert x.tolist() == [[[3, 0], [0, 2], [0, 3]], [[1, 1], [0, 0], [0, 0]], [[0, 0]] * 3]
    assert WORDS.encode([]).shape == (0, 3, 2)


def test_words_are_split_as_in_sst2():
    assert split_words("Isn't it DON'T, n't l'été 3D!") == ["is", "n't", "it", "do", "n't", "n't", "l'été", "d"]


@pytest.mark.parametrize("raw", ["a sentence", [1], [["words"]], None, 3])
def test_what_is_no_list_of_sentences_is_refused(raw):
    with pytest.raises(ValueError, match="must be a list of strings"):
        WORDS.encode(raw)


@pytest.mark.parametrize("encoder", [PIXELS, WORDS], ids=["pixels", "words"])
def test_an_encoder_comes_back_from_its_state(encoder):
    settings, arrays = encoder.state()
    back = encoder_from_state(json.loads(json.dumps(settings)), arrays)
    raw = np.arange(8).reshape(2, 4) if encoder is PIXELS else ["a good film", "dull n't"]
    assert np.array_equal(back.encode(raw), encoder.encode(raw))
    assert back.shape == encoder.shape


@pytest.mark.parametrize(
    ("encoder", "settings", "arrays", "message"),
    [
        (PIXELS, {"kind": "sounds"}, {}, "kind must be one of"),
        (PIXELS, {"more": 1}, {}, "more unknown"),
        (PIXELS, {"highest": "16"}, {}, "highest must be an integer"),
        (PIXELS, {"input_qmax": 17}, {}, "input_qmax must lie in"),
        (PIXELS, {}, {"order": np.array([[0, 0], [1, 2]])}, "each pixel once"),
        (PIXELS, {}, {"order": np.array([[0.0, 1.0]])}, "order must be integers"),
        (PIXELS, {}, {"more": np.zeros(1)}, "more unknown"),
        (WORDS, {"words": ["good"] * 5}, {}, "words must be distinct"),
        (WORDS, {"words": "good"}, {}, "words must be a list of strings"),
        (WORDS, {"tokens": 0}, {}, "tokens must be at least 1"),
        (WORDS, {"input_qmax": 2}, {}, r"levels must lie in \[0, 2\]"),
        (WORDS, {}, {"levels": np.zeros((4, 2), int)}, "levels must be"),
        (WORDS, {}, {"levels": np.zeros((5, 2))}, "levels must be integers"),
        (WORDS, {}, {"importance": np.zeros(4)}, "one number for each of 5 words"),
        (WORDS, {}, {"importance": np.full(5, np.nan)}, "importance must be finite"),
    ],
)
def test_a_state_that_is_wrong_is_refused(encoder, settings, arrays, message):
    old_settings, old_arrays = encoder.state()
    with pytest.raises(ValueError, match=message):
        encoder_from_state(old_settings | settings, old_arrays | arrays)


def test_what_a_state_lacks_is_named():
    settings, arrays = WORDS.state()
    del settings["tokens"], arrays["levels"]
    with pytest.raises(ValueError, match="tokens missing"):
        encoder_from_state(settings, arrays)
    with pytest.raises(ValueError, match="levels missing"):
        encoder_from_state(settings | {"tokens": 3}, arrays)
