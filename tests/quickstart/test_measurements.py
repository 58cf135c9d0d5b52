"""What is measured as each stage ends, and the speeds."""

from __future__ import annotations

import pytest

from inhibitor_transformers.quickstart.measurements import AGREEMENT_LENGTHS


def test_a_result_per_stage(quickstart):
    stages = quickstart.report.stages
    assert [stage.name for stage in stages] == ["start", "calibrate", "align_attention"]
    assert stages[0].seconds == 0.0
    assert all(stage.seconds > 0 for stage in stages[1:])
    for stage in stages:
        assert len(stage.attention_error) == 2
        assert -1 <= stage.similarity_spearman <= 1
        assert set(stage.agreement) <= set(AGREEMENT_LENGTHS)


def test_calibration_brings_the_attention_outputs_nearer(quickstart):
    start, calibrated, _ = quickstart.report.stages
    assert sum(calibrated.attention_error) < sum(start.attention_error)


def test_the_teacher_s_similarities_are_the_same_for_every_stage(quickstart):
    similarities = quickstart.report.similarities
    assert list(similarities) == ["start", "calibrate", "align_attention"]
    teacher = similarities["start"][0]
    for ours, theirs in similarities.values():
        assert ours == teacher
        assert len(theirs) == len(teacher) <= 600
        assert theirs != teacher


def test_speeds_of_both_models(quickstart):
    speeds = quickstart.report.throughput
    assert [(speed.batch, speed.length) for speed in speeds] == [(1, 64), (8, 64), (8, 128)]
    for speed in speeds:
        assert speed.student > 0
        assert speed.teacher > 0
        assert speed.ratio == pytest.approx(speed.student / speed.teacher)
