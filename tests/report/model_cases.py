"""Reports of converted models with pictures and with texts, and one whose every text is markup."""

from __future__ import annotations

import base64
import dataclasses

from inhibitor_transformers.report import (
    Continuation,
    LayerMaps,
    ModelReport,
    NextToken,
    Picture,
    Prediction,
    Table,
)
from tests.report.cases import HOSTILE

# One gray pixel; the page does not look into it.
PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg==")


def picture(**changes) -> Picture:
    maps = LayerMaps(
        "the class token",
        ["layer 0", "layer 1"],
        passing=[[0.0, 0.5, 1.0, 0.25, 0.5, 0.75], [0.2] * 6],
        attention=[[0.1, 0.3, 0.1, 0.1, 0.2, 0.1], [0.0] * 5 + [0.9]],
    )
    made = Picture("cat.png", PNG, (30, 20), 2, 3, maps, Prediction("cat", 0.913), Prediction("cat", 0.9))
    return dataclasses.replace(made, **changes)


def continuation(**changes) -> Continuation:
    maps = LayerMaps("“ sat”", ["layer 0"], passing=[[0.25, 1.0]], attention=[[0.9, 0.1]])
    made = Continuation(
        prompt="The cat",
        tokens=[NextToken(" sat", " sat", True), NextToken(" on\n", " under", False), NextToken("\n", "\n", True)],
        own=[" sat", " under", " it"],
        common=1,
        keys=[" cat", " sat"],
        cut=1,
        maps=maps,
    )
    return dataclasses.replace(made, **changes)


def model_report(**changes) -> ModelReport:
    report = ModelReport(
        student="mine",
        teacher="theirs",
        model="InhibitorViTModel",
        converted=(2, 3),
        conversion=Table(
            "What was converted",
            ["attention modules", "computes", "why"],
            [["a … b (2)", "inhibitor", "4 heads"], ["c", "softmax", "not asked for"]],
        ),
        pictures=[picture(), picture(name="dog.png", student=Prediction("dog", 0.5))],
        continuations=[continuation(), continuation()],
        facts=[("device", "cpu")],
    )
    return dataclasses.replace(report, **changes)


def hostile_model_report() -> ModelReport:
    maps = LayerMaps(HOSTILE, [HOSTILE], [[0.5]], [[0.5]])
    token = NextToken(HOSTILE, HOSTILE, False)
    return ModelReport(
        student=HOSTILE,
        teacher=HOSTILE,
        model=HOSTILE,
        converted=(1, 1),
        conversion=Table(HOSTILE, [HOSTILE] * 2, [[HOSTILE] * 2]),
        pictures=[Picture(HOSTILE, PNG, (1, 1), 1, 1, maps, Prediction(HOSTILE, 0.5), Prediction(HOSTILE, 0.5))],
        continuations=[Continuation(HOSTILE, [token], [HOSTILE], 0, [HOSTILE], 0, maps)],
        facts=[(HOSTILE, HOSTILE)],
    )
