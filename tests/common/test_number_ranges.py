"""Numbers in and out of their ranges."""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass

import pytest
from transformers import TrainingArguments

from inhibitor_transformers.common.errors import ConfigError
from inhibitor_transformers.common.number_ranges import (
    FINITE,
    FRACTION,
    FRACTION_OR_ONE,
    NOT_NEGATIVE,
    POSITIVE,
    SEED,
    STEPS,
    TRAINING,
    check_number,
    check_numbers,
)


@pytest.mark.parametrize(
    ("allowed", "value"),
    [
        (POSITIVE, 1e-9),
        (NOT_NEGATIVE, 0),
        (FRACTION, 0.0),
        (FRACTION, 0.999),
        (FRACTION_OR_ONE, 1),
        (FINITE, -1e30),
        (SEED, 0),
        (SEED, 2**32 - 1),
        (STEPS, 1),
        (STEPS, -1),
        (POSITIVE, None),
    ],
)
def test_in_range(allowed, value):
    check_number("it", value, allowed)


@pytest.mark.parametrize(
    ("allowed", "value", "words"),
    [
        (POSITIVE, 0, "be positive, got 0"),
        (NOT_NEGATIVE, -1e-9, "not be negative"),
        (FRACTION, 1.0, r"be from 0 to below 1, got 1\.0"),
        (FRACTION, -0.1, "be from 0 to below 1"),
        (FRACTION_OR_ONE, 1.001, "be from 0 to 1, got"),
        (SEED, 2**32, "be from 0 to 4294967295"),
        (SEED, -1, "be from 0"),
        (STEPS, 0, r"be positive \(or -1: num_train_epochs decides\), got 0"),
        (FINITE, math.nan, "be a finite number, got nan"),
        (FINITE, math.inf, "be a finite number"),
        (POSITIVE, True, "be positive, got True"),
        (POSITIVE, "1", "be positive, got '1'"),
    ],
)
def test_out_of_range(allowed, value, words):
    with pytest.raises(ConfigError, match=f"^it must {words}"):
        check_number("it", value, allowed)


def test_attributes_are_named_with_their_prefix():
    @dataclass
    class Settings:
        weight: float = -1.0
        seed: int = -1

    check_numbers(Settings(weight=1.0), {"weight": POSITIVE})
    with pytest.raises(ConfigError, match=r"^stage\.weight must be positive, got -1\.0$"):
        check_numbers(Settings(), {"weight": POSITIVE}, "stage.")


def test_every_number_of_transformers_has_a_range():
    numbers = {
        field.name
        for field in dataclasses.fields(TrainingArguments)
        if set(re.findall(r"\w+", str(field.type))) & {"int", "float"} and "dict" not in str(field.type)
    }
    assert numbers - TRAINING.keys() == {"label_smoothing_factor", "local_rank"}
