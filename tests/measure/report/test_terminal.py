"""The tables in the terminal."""

from __future__ import annotations

import dataclasses
import re

from inhibitor_transformers.measure.report import Throughput
from tests.measure.report.cases import LAYER_ROWS, SPEED_ROWS, STAGE_ROWS, make_report, printed


def test_terminal_has_every_table():
    text = printed(make_report(), width=80)
    for row in (*STAGE_ROWS[1:], *LAYER_ROWS[1:], *SPEED_ROWS[1:]):
        assert re.search(r"\s+".join(map(re.escape, row)), text)


def test_terminal_shows_brackets_as_they_are():
    text = printed(make_report(title="[bold]x[/] :smile:", throughput=[Throughput(1, 2, 3.0, 4.0, "[red]e", 1)]), 100)
    assert "[bold]x[/] :smile:" in text
    assert "[red]e" in text


def test_four_lengths_fit_a_terminal_of_80_columns():
    lengths = {16: 0.91, 32: 0.92, 64: 0.93, 128: -0.94}
    stages = [dataclasses.replace(stage, agreement=lengths) for stage in make_report().stages]
    assert max(map(len, printed(make_report(stages=stages), 80).splitlines())) <= 80


def test_a_narrow_terminal_loses_no_number():
    text = printed(make_report(), 30)
    for row in (*STAGE_ROWS[1:], *LAYER_ROWS[1:], *SPEED_ROWS[1:]):
        assert re.search(r"\s+".join(map(re.escape, row)), text)
