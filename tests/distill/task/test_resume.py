"""Fine-tunings that were interrupted: resumed exactly, and only with what they began with."""

from __future__ import annotations

import shutil

import pytest
import yaml
from safetensors.torch import load_file, save_file

from inhibitor_transformers.distill import ConfigError
from inhibitor_transformers.distill.task import FinetuneArguments, FineTuning
from inhibitor_transformers.distill.task.loss import TaskLoss
from inhibitor_transformers.tasks import load_task
from tests.distill.fine_tuning import FAST, StoppedError, custom, run
from tests.distill.tiny import assert_same_weights, reviews


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    original, calls = TaskLoss.__call__, 0

    def counted(self, *args):
        nonlocal calls
        calls += 1
        if calls == step:
            raise StoppedError
        return original(self, *args)

    monkeypatch.setattr(TaskLoss, "__call__", counted)


class TestResume:
    def test_in_the_middle_of_an_epoch(self, student_path, teacher, data, tmp_path, monkeypatch):
        settings = {"teacher_source": teacher[0]}
        whole = run(student_path, data, tmp_path / "whole", **settings)
        steps = -(-len(data.train) // 16)
        with monkeypatch.context() as patch:
            stop_at(patch, steps + 4)
            with pytest.raises(StoppedError):
                run(student_path, data, tmp_path / "run", **settings)
        assert not (tmp_path / "run" / "results.json").exists()
        resumed = run(student_path, data, tmp_path / "run", resume=True, **settings)
        assert_same_weights(tmp_path / "run", tmp_path / "whole")
        assert (resumed.scores, resumed.teacher_scores) == (whole.scores, whole.teacher_scores)

    def test_before_the_first_checkpoint(self, student_path, data, tmp_path, monkeypatch):
        run(student_path, data, tmp_path / "whole", num_train_epochs=1)
        with monkeypatch.context() as patch:
            stop_at(patch, 3)
            with pytest.raises(StoppedError):
                run(student_path, data, tmp_path / "run", num_train_epochs=1)
        run(student_path, data, tmp_path / "run", num_train_epochs=1, resume=True)
        assert_same_weights(tmp_path / "run", tmp_path / "whole")

    def test_results_of_an_earlier_version(self, student_path, data, tmp_path):
        """They were called damaged."""
        run(student_path, data, tmp_path / "run", max_steps=1)
        results = tmp_path / "run" / "results.json"
        results.write_text(results.read_text().replace("initial_scores", "start_scores"))
        lacks = "results.json is damaged or of an earlier version: it has no initial_scores; delete it, and this fine-"
        with pytest.raises(ConfigError, match=lacks):
            run(student_path, data, tmp_path / "run", max_steps=1, resume=True)

    def test_with_other_settings(self, student_path, data, tmp_path):
        run(student_path, data, tmp_path / "run", num_train_epochs=1)
        with pytest.raises(ConfigError, match=r"other settings than this one \(learning_rate\)"):
            run(student_path, data, tmp_path / "run", num_train_epochs=1, resume=True, learning_rate=1e-5)

    def test_with_other_data(self, student_path, tmp_path):
        """The number of examples was not part of the settings: other data could slip into a resumed run."""
        folder = tmp_path / "data"
        custom(folder, reviews(100), reviews(40, seed=1))
        fewer = load_task("custom", folder, max_train_examples=60)
        run(student_path, fewer, tmp_path / "run", num_train_epochs=1)
        with pytest.raises(ConfigError, match=r"other settings than this one \(data\)"):
            run(student_path, load_task("custom", folder), tmp_path / "run", num_train_epochs=1, resume=True)

    def test_with_other_settings_that_are_a_mapping(self, student_path, data, tmp_path):
        """Only numbers and texts were compared."""
        first = {"max_steps": 2, "lr_scheduler_type": "polynomial", "lr_scheduler_kwargs": {"power": 1}}
        run(student_path, data, tmp_path / "run", **first)
        with pytest.raises(ConfigError, match=r"other settings than this one \(lr_scheduler_kwargs\)"):
            run(student_path, data, tmp_path / "run", resume=True, **first | {"lr_scheduler_kwargs": {"power": 3}})

    def test_with_other_names_of_the_classes(self, student_path, tmp_path):
        labels = [row | {"label": "ab"[row["label"]]} for row in reviews(60)]
        run(student_path, custom(tmp_path / "data", labels, labels[:20]), tmp_path / "run", max_steps=1)
        renamed = [row | {"label": "xy"["ab".index(row["label"])]} for row in labels]
        with pytest.raises(ConfigError, match=r"other settings than this one \(data\)"):
            run(
                student_path,
                custom(tmp_path / "data", renamed, renamed[:20]),
                tmp_path / "run",
                max_steps=1,
                resume=True,
            )

    @pytest.mark.parametrize(
        ("role", "named"),
        [
            ("source", "model_weights"),
            ("teacher_source", "teacher_weights"),
            ("teacher_base", "teacher_base_weights"),
        ],
    )
    def test_with_other_weights_under_the_same_name(
        self, role, named, student_path, teacher, teacher_path, data, tmp_path
    ):
        sources = {"source": student_path, "teacher_source": teacher[0], "teacher_base": teacher_path}
        copy = tmp_path / "copy"
        shutil.copytree(sources[role], copy)
        sources[role] = str(copy)
        run(**sources, data=data, output=tmp_path / "run", max_steps=1)
        file = copy / "model.safetensors"
        weights = load_file(file)
        name = next(name for name in weights if name.endswith("word_embeddings.weight"))
        save_file(weights | {name: weights[name] * 1.001}, file, metadata={"format": "pt"})
        said: list[str] = []
        with pytest.raises(ConfigError, match=rf"other settings than this one \(.*\b{named}\b.*\)"):
            run(**sources, data=data, output=tmp_path / "run", max_steps=1, resume=True, log=said.append)
        assert not said  # no teacher was scored

    def test_a_finished_run_is_not_trained_again(self, student_path, data, tmp_path):
        """Without its checkpoints it was, over the finished model."""
        first = run(student_path, data, tmp_path / "run", max_steps=1)
        shutil.rmtree(tmp_path / "run" / "checkpoints")
        before, said = (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns, list[str]()
        assert run(student_path, data, tmp_path / "run", max_steps=1, resume=True, log=said.append) == first
        assert said == [f"{tmp_path / 'run'} is finished already: nothing is left to resume"]
        assert (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns == before
        assert not (tmp_path / "run" / "checkpoints").exists()

    def test_other_kinds_of_settings_are_recorded(self, student_path, data, tmp_path):
        run(student_path, data, tmp_path / "run", max_steps=2, lr_scheduler_type="cosine")
        record = yaml.safe_load((tmp_path / "run" / "run.yaml").read_text())
        assert record["lr_scheduler_type"] == "cosine"

    def test_checkpoints_of_another_run_are_never_picked_up(self, student_path, data, tmp_path):
        """Two runs that named one output_dir: the second went on from the first one's checkpoint, and said nothing."""
        for name in ("a", "b"):
            arguments = FinetuneArguments(output_dir=str(tmp_path / "shared"), **(FAST | {"max_steps": 4}))
            said: list[str] = []
            FineTuning(student_path, data, arguments, tmp_path / name, log=said.append).run()
        assert not (tmp_path / "shared").exists()
        assert_same_weights(tmp_path / "a", tmp_path / "b")


@pytest.mark.parametrize("damaged", ["optimizer.pt", "model.safetensors"])
def test_a_damaged_checkpoint_is_passed_over_for_an_older_one(damaged, student_path, data, tmp_path):
    """Its settings keep the checkpoints of all epochs."""
    kept = {"save_total_limit": None, "load_best_model_at_end": False}
    run(student_path, data, tmp_path / "whole", **kept)
    shutil.copytree(tmp_path / "whole", tmp_path / "run")
    first, last = (tmp_path / "run" / "checkpoints" / f"checkpoint-{step}" for step in (15, 30))
    (tmp_path / "run" / "results.json").unlink()
    (last / damaged).write_bytes((last / damaged).read_bytes()[:100])
    said: list[str] = []
    run(student_path, data, tmp_path / "run", resume=True, log=said.append, **kept)
    assert f"{last} is passed over: {damaged} is cut off" in " ".join(said)
    assert f"resuming from {first.name}" in said
    assert_same_weights(tmp_path / "run", tmp_path / "whole")


def test_without_a_whole_checkpoint_the_training_starts_anew(student_path, data, tmp_path):
    run(student_path, data, tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "run")
    (tmp_path / "run" / "results.json").unlink()
    for state in (tmp_path / "run" / "checkpoints").glob("*/trainer_state.json"):
        state.write_text("{")
    said: list[str] = []
    run(student_path, data, tmp_path / "run", resume=True, log=said.append)
    assert "no checkpoint is whole: the training starts anew" in said
    assert_same_weights(tmp_path / "run", tmp_path / "whole")
