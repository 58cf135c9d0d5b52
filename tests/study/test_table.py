"""The tables of a study."""

from __future__ import annotations

import pytest

from inhibitor_transformers.study import Run, Study
from inhibitor_transformers.study.table import drop, drop_table, rate_table, score, score_table
from tests.study.cases import config, finish


class TestTable:
    @pytest.fixture
    def study(self, tmp_path) -> Study:
        study = Study(config(), tmp_path)
        for model, values in {"baseline": (0.80, 0.84), "student": (0.81, 0.81)}.items():
            for seed, value in enumerate(values):
                finish(study, Run("sst2", model, 1e-4, seed), value)
        finish(study, Run("cola", "baseline", 1e-4, 0), 0.30)
        finish(study, Run("cola", "student", 1e-4, 0), 0.27)
        return study

    def test_mean_and_deviation_over_the_seeds(self, study):
        found = score(study, "sst2", "baseline")
        assert found is not None
        assert found.mean == pytest.approx(82.0)
        assert found.deviation == pytest.approx(2.828, abs=1e-3)
        assert found.seeds == 2
        assert score(study, "sst2", "taught") is None

    def test_the_loss_against_the_baseline(self, study):
        lost = drop(study, "student")
        assert lost is not None
        assert lost.tasks == pytest.approx({"sst2": 1.0, "cola": 3.0})
        assert (lost.mean, lost.largest) == pytest.approx((2.0, 3.0))
        assert drop(study, "baseline") is None
        assert drop(study, "taught") is None  # nothing finished

    def test_what_is_not_finished_is_a_dash(self, study):
        rows = {row[0]: row[1:] for row in score_table(study).rows}
        assert rows["baseline"] == ["82.0 ± 2.8", "30.0", "56.0"]
        assert rows["taught"] == ["–", "–", "–"]
        assert drop_table(study).rows == [["baseline − student", "+1.0", "+3.0", "+2.00", "+3.0"]]
        assert rate_table(study).rows[0] == ["teacher", "0.0001", "0.0001"]
