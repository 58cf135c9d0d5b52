"""The tables in the terminal."""

from __future__ import annotations

import dataclasses
import io
import re

import pytest
from rich.cells import cell_len
from rich.console import Console

from inhibitor_transformers.report import Table, Throughput, print_table
from tests.report.cases import LAYER_ROWS, SPEED_ROWS, STAGE_ROWS, make_report, printed


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


def shown(table: Table, width: int) -> str:
    out = io.StringIO()
    print_table(table, Console(file=out, width=width))
    return out.getvalue()


WIDE = Table(
    "Agreement",
    ["model", *(f"mean cosine\n{length} tokens" for length in (32, 64, 128, 256, 512)), "speed\nsequences/s"],
    [
        ["runs/2026/a-student-with-a-long-name", *(f"0.{i}123" for i in range(5)), "1234"],
        ["teacher", *(f"0.{i}987" for i in range(5)), "2345"],
    ],
)


@pytest.mark.parametrize("width", [30, 40, 60, 80, 100])
class TestNarrow:
    def test_every_value_is_there_and_no_line_too_long(self, width):
        lines = shown(WIDE, width).splitlines()
        assert max(map(len, lines)) <= width
        words = "\n".join(lines).split()
        for row in WIDE.rows:
            assert all(words.count(cell) == 1 for cell in row[1:])
        assert all(words.count(str(length)) == 1 for length in (32, 64, 128, 256, 512))

    def test_each_value_is_beside_its_row_s_name_and_below_its_column_s(self, width):
        parts = shown(WIDE, width).split("\n\n")
        for place, length in enumerate((32, 64, 128, 256, 512)):
            (part,) = (part for part in parts if re.search(rf"\b{length}\b", part))
            for row, start in zip(WIDE.rows, ("runs/2026", "teacher"), strict=True):
                line = next(line for line in part.splitlines() if line.startswith(start))
                assert row[place + 1] in line
                assert line.index(row[place + 1]) <= part.splitlines()[-1].index(WIDE.rows[1][place + 1])

    def test_the_summary(self, width):
        text = printed(make_report(), width)
        assert max(map(len, text.splitlines())) <= width
        for row in (*STAGE_ROWS[1:], *LAYER_ROWS[1:], *SPEED_ROWS[1:]):
            assert all(cell in text for cell in row[1:])

    def test_long_words_are_folded(self, width):
        cell, name = "value" * 30, "folder/" * 30
        text = shown(Table("t", ["row", "what"], [[name, cell]]), width)
        lines = [line for line in text.splitlines() if "folder" in line or "value" in line or "/" in line]
        assert max(map(len, lines)) <= width
        joined = re.sub(r"\s+", "", text)
        assert joined.count("f") + joined.count("v") == 30 + 30

    def test_wide_characters(self, width):
        name = "模型" * 20
        text = shown(Table("t", ["row", "a", "b"], [[name, "0.5", "0.7"]]), width)
        assert max(map(cell_len, text.splitlines())) <= width
        assert sum(text.count(c) for c in "模型") == 40
