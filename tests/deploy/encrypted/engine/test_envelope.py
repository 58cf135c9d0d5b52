"""Envelopes: one frame, free numbers, and nothing else."""

from __future__ import annotations

import json
import secrets

import pytest

from inhibitor_transformers.deploy.encrypted.engine.envelope import Envelope


def message(numbers: bytes | None = None, frame: bytes = b"shape  2") -> bytes:
    return frame + (numbers or secrets.token_bytes(64)) + b"the end." + secrets.token_bytes(16) + frame


def test_only_numbers_are_free():
    envelope = Envelope.of(message(), message())
    assert (envelope.size, envelope.numbers) == (104, ((8, 64), (80, 16)))
    envelope.check(message(), "ciphertext")
    assert Envelope.from_dict(json.loads(json.dumps(envelope.as_dict()))) == envelope


@pytest.mark.parametrize("place", [0, 7, 72, 79, 96, 103])
def test_one_bit_of_the_frame(place):
    envelope, damaged = Envelope.of(message(), message()), bytearray(message())
    damaged[place] ^= 1
    with pytest.raises(ValueError, match="ciphertext: damaged, or made for another program"):
        envelope.check(bytes(damaged), "ciphertext")


@pytest.mark.parametrize("change", [lambda m: m[:-1], lambda m: m + b"x", lambda m: b""])
def test_another_size(change):
    with pytest.raises(ValueError, match="exactly 104 are needed"):
        Envelope.of(message(), message()).check(change(message()), "ciphertext")


@pytest.mark.parametrize(("first", "second"), [(b"12345678", b"1234567812345678"), (b"123", b"456")])
def test_messages_without_one_frame(first, second):
    with pytest.raises(ValueError, match="no common envelope"):
        Envelope.of(first, second)
