"""Which fine-tunings of a study can be run, in which order, and which are left."""

from __future__ import annotations

from inhibitor_transformers.study import Run, Study
from tests.study.cases import config, finish


class TestRuns:
    def test_a_taught_model_waits_for_its_teacher_of_the_same_seed(self, tmp_path):
        study = Study(config(), tmp_path)
        assert {(c.model, c.seed) for c in study.pending()} == {
            (model, seed) for model in ("teacher", "baseline", "student") for seed in (0, 1)
        }
        finish(study, Run("sst2", "teacher", 1e-4, 1), 0.9)
        assert [c for c in study.pending() if c.model == "taught"] == [Run("sst2", "taught", 1e-4, 1)]
        assert study.teacher_folder(Run("sst2", "taught", 1e-4, 1)) == tmp_path / "sst2/teacher/lr-0.0001/seed-1"

    def test_a_model_whose_weights_were_not_kept_is_trained_again_for_a_row_that_it_teaches(self, tmp_path):
        alone = Study(config(models={"teacher": "t"}, tasks={"sst2": {}}, seeds=[0]), tmp_path)
        teacher, taught = Run("sst2", "teacher", 1e-4, 0), Run("sst2", "taught", 1e-4, 0)
        finish(alone, teacher, 0.9)
        assert list(alone.pending()) == []
        models = {"teacher": "t", "taught": {"model": "s", "teacher": "teacher"}}
        study = Study(config(models=models, tasks={"sst2": {}}, seeds=[0]), tmp_path)
        assert list(study.pending()) == [teacher]
        finish(study, teacher, 0.9)
        assert list(study.pending()) == [taught]
        finish(study, taught, 0.9)
        (teacher.folder(tmp_path) / "model.safetensors").unlink()  # not needed any more
        assert list(study.pending()) == []

    def test_the_first_seed_comes_first(self, tmp_path):
        seeds = [run.seed for run in Study(config(), tmp_path).pending()]
        assert seeds == sorted(seeds)

    def test_the_grid_is_searched_with_the_first_seed_and_the_best_rate_serves_the_others(self, tmp_path):
        study = Study(config(learning_rates=[1e-4, 3e-4], training={"selection_fraction": 0.1}), tmp_path)
        ours = [c for c in study.pending() if (c.task, c.model) == ("sst2", "student")]
        assert {(c.learning_rate, c.seed) for c in ours} == {(1e-4, 0), (3e-4, 0)}
        finish(study, Run("sst2", "student", 1e-4, 0), 0.9, selection=0.7)
        assert study.learning_rate("sst2", "student") is None
        finish(study, Run("sst2", "student", 3e-4, 0), 0.8, selection=0.8)
        assert study.learning_rate("sst2", "student") == 3e-4
        ours = [c for c in study.pending() if (c.task, c.model) == ("sst2", "student")]
        assert ours == [Run("sst2", "student", 3e-4, 1)]

    def test_how_many_are_left(self, tmp_path):
        settings = {"models": {"teacher": "t"}, "tasks": {"sst2": {}}, "training": {"selection_fraction": 0.1}}
        study = Study(config(**settings, learning_rates=[1e-4, 2e-4, 3e-4]), tmp_path)
        counts = []
        while run := next(study.pending(), None):
            counts.append(study.count_left())
            finish(study, run, 0.9, selection=0.5)
        assert counts == [4, 3, 2, 1]  # the grid with the first seed, its best rate with the second
        assert study.count_left() == 0
        assert Study(config(), tmp_path / "other").count_left() == 2 * 4 * 2

    def test_nothing_is_left_when_all_is_finished_or_skipped(self, tmp_path):
        study = Study(config(tasks={"sst2": {}}, seeds=[0]), tmp_path)
        for model in ("teacher", "baseline", "student"):
            finish(study, Run("sst2", model, 1e-4, 0), 0.5)
        (taught,) = study.pending()
        taught.folder(tmp_path).mkdir(parents=True)
        (taught.folder(tmp_path) / "skipped.txt").write_text("no better than chance")
        assert list(study.pending()) == []


def test_rates_that_are_nearly_equal_have_folders_of_their_own(tmp_path):
    rates = (1e-4, 0.00010000001)
    assert len({Run("sst2", "a", rate, 0).folder(tmp_path) for rate in rates}) == 2
    assert Run("sst2", "a", 1e-4, 0).folder(tmp_path).parent.name == "lr-0.0001"
