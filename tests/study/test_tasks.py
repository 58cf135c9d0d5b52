"""Studies on a user's own data."""

from __future__ import annotations

import dataclasses

import pytest

from inhibitor_transformers.distill import ConfigError
from inhibitor_transformers.study import Study, StudyConfig, run_study
from inhibitor_transformers.study.table import score_table
from tests.distill.fine_tuning import FAST, write
from tests.distill.tiny import reviews
from tests.study.cases import config


class TestOwnData:
    """Studies on a user's own data: their error recommended "custom", which they refused."""

    @pytest.fixture
    def own(self, teacher_path, tmp_path) -> StudyConfig:
        """Two tasks: a file with columns of other names and scores, and a folder with train and validation."""
        rows = [{"review": row["text"], "stars": f"{row['label']}.5"} for row in reviews(60)]
        write(tmp_path / "data", "stars", rows)
        write(tmp_path / "folder", "train", reviews(40))
        write(tmp_path / "folder", "validation", reviews(20, seed=1))
        stars = {"data": str(tmp_path / "data" / "stars.csv"), "text_columns": "review", "label_column": "stars"}
        return StudyConfig(
            models={"model": teacher_path},
            tasks={"stars": stars, "custom": {"max_steps": 1}},
            seeds=[0],
            training={k: v for k, v in FAST.items() if k != "learning_rate"} | {"max_steps": 2},
            data=str(tmp_path / "folder"),
        )

    def test_names_of_one_s_own_choice(self, own, tmp_path):
        said: list[str] = []
        study, seen = run_study(own, tmp_path / "study", log=said.append), {}
        assert said[0] == "stars: text from review, regression (decimal labels) from stars"
        for task in ("stars", "custom"):
            (run,) = study.runs(task, "model")
            record = study.result(run)
            assert record is not None
            seen[task] = {split: list(scores) for split, scores in record["scores"].items()}
            assert record["settings"]["task"] == task
        assert seen == {
            "stars": {"held_out": ["pearson", "spearman"]},
            "custom": {"validation": ["accuracy", "macro_f1"]},
        }
        assert score_table(study).header == ["", "stars pearson", "custom accuracy", "mean"]
        assert "–" not in score_table(study).rows[0]
        run_study(own, tmp_path / "study", resume=True, log=pytest.fail)
        self.data_that_changed_is_noticed(own, tmp_path)

    def data_that_changed_is_noticed(self, own, tmp_path):
        with (tmp_path / "folder" / "validation.csv").open("a", encoding="utf-8") as file:
            file.write("the cat,1\n")
        with pytest.raises(ConfigError, match=r"other settings than this study \(examples: custom\)"):
            run_study(own, tmp_path / "study", resume=True)

    def test_what_is_held_out_is_the_same_for_every_row_and_seed(self, own):
        first, again = (own.study_tasks["stars"].load(own.data_seed) for _ in range(2))
        assert first.evaluation["held_out"][:] == again.evaluation["held_out"][:]
        assert first.task.name == "stars"
        other = own.study_tasks["stars"].load(1)
        assert other.evaluation["held_out"][:] != first.evaluation["held_out"][:]

    def test_data_that_is_not_there_is_told_before_any_work(self, own, tmp_path):
        gone = dataclasses.replace(own, tasks={"mine": {"data": str(tmp_path / "gone.csv")}})
        with pytest.raises(FileNotFoundError, match=r"gone\.csv: no such file or folder"):
            run_study(gone, tmp_path / "study")
        assert not (tmp_path / "study").exists()

    def test_a_known_task_may_have_its_own_folder(self, tmp_path):
        made = config(tasks={"sst2": {"data": "here"}, "cola": {}}, data="there")
        assert {name: (part.data, part.is_own) for name, part in made.study_tasks.items()} == {
            "sst2": ("here", False),
            "cola": ("there", False),
        }

    def test_a_table_without_results(self, own, tmp_path):
        assert score_table(Study(own, tmp_path)).header == ["", "stars", "custom", "mean"]
