"""What the tables and sentences say, also where numbers are missing."""

from __future__ import annotations

import re

import pytest

from inhibitor_transformers.report import StageResult, Throughput, render_html, render_markdown
from inhibitor_transformers.report.tables import throughput_verdict
from tests.report.cases import INF, NAN, Page, make_report, markdown_tables, printed


@pytest.mark.parametrize("render", [render_markdown, render_html])
def test_what_it_is_is_told_in_three_sentences(render):
    text = Page(render_html(make_report())).text if render is render_html else render_markdown(make_report())
    (introduction,) = [line for line in text.splitlines() if "The student is the encoder" in line]
    introduction = introduction[introduction.index("The student is") : introduction.index("no stage has seen.") + 18]
    assert len(re.findall(r"[a-zU]\.( |$)", introduction)) == 3
    assert "all-MiniLM-L6-v2" in introduction
    assert "2 stages (calibrate, align attention), 3 min 18 s in all" in introduction


@pytest.mark.parametrize(
    ("ratios", "verdict"),
    [
        ([0.4, 0.2], "The student is slower than the teacher at every size measured: 0.20–0.40 times"),
        ([1.5], "The student is faster than the teacher at every size measured: 1.50 times"),
        ([1.0, 0.98, 1.02], "The student is about as fast as the teacher at every size measured: 0.98–1.02 times"),
        ([0.5, 1.0, 2.0], "Of 3 sizes measured, the student is slower than the teacher at 1, about as fast as"),
        ([1.02, 1.2], "Of 2 sizes measured, the student is about as fast as the teacher at 1, faster than the"),
        ([NAN, 0.5], "The student is slower than the teacher at every size measured: 0.50 times"),
    ],
)
def test_verdict_on_speed(ratios, verdict):
    assert throughput_verdict([Throughput(1, 1, ratio * 10, 10.0, "cpu", 1) for ratio in ratios]).startswith(verdict)


def test_no_verdict_without_a_measurement():
    assert throughput_verdict([]) == ""
    assert throughput_verdict([Throughput(1, 1, 5.0, 0.0, "cpu", 1)]) == ""


@pytest.mark.parametrize("render", [render_markdown, render_html, lambda report: printed(report, width=200)])
def test_every_form_says_that_the_student_is_slower(render):
    assert "slower than the teacher at every size measured: 0.23–0.41 times" in render(make_report())


def test_undefined_numbers_are_called_so():
    stages = [
        StageResult("start", 0.0, [NAN, INF], NAN, {32: NAN}),
        StageResult("calibrate", 2.0, [INF], 0.9, {64: 0.8}),
    ]
    tables = markdown_tables(render_markdown(make_report(stages=stages)))
    assert tables[0][1:] == [
        ["start", "–", "undefined", "undefined", "undefined", "–"],
        ["calibrate", "2.0 s", "infinite", "0.900", "–", "0.800"],
    ]
    assert tables[1][1:] == [["0", "undefined", "infinite"], ["1", "infinite", "–"]]
    assert "undefined at the start" in Page(render_html(make_report(stages=stages))).text


def test_a_teacher_without_speed_has_no_ratio():
    speeds = [Throughput(1, 64, 10.0, 0.0, "cpu", 2), Throughput(8, 64, NAN, 20.0, "cpu", 2)]
    rows = markdown_tables(render_markdown(make_report(throughput=speeds)))[2][1:]
    assert [row[1:4] for row in rows] == [["10.0", "0", "–"], ["undefined", "20.0", "–"]]
