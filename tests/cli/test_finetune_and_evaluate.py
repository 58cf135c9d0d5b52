"""`inhibit finetune` and `inhibit evaluate` on tiny models and a user's own data."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from transformers import AutoModelForSequenceClassification, BertForSequenceClassification

from inhibitor_transformers.models import InhibiDistilBertForSequenceClassification, InhibiDistilBertModel
from tests.distill.tiny import (
    NOUNS,
    VERBS,
    assert_same_weights,
    bert,
    bert_tokenizer,
    reviews,
    roberta,
    roberta_tokenizer,
    saved,
    weights_of,
)

QUICK = ("--epochs", "1", "--batch-size", "16", "--learning-rate", "3e-3", "--set", "max_length=16")


def write(file: Path, rows: list[dict[str, Any]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="", encoding="utf-8") as opened:
        table = csv.DictWriter(opened, list(rows[0]))
        table.writeheader()
        table.writerows(rows)


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    """The user's own data: a folder with train.csv and validation.csv."""
    folder = tmp_path_factory.mktemp("reviews")
    write(folder / "train.csv", reviews(160))
    write(folder / "validation.csv", reviews(60, seed=1))
    return folder


@pytest.fixture(scope="session")
def stsb(tmp_path_factory) -> Path:
    """A folder laid out as GLUE's, with an STS-B in the words of the tiny tokenizer."""
    folder, random = tmp_path_factory.mktemp("glue"), np.random.default_rng(0)
    for split, count in (("train", 8), ("validation", 40)):
        rows = []
        for _ in range(count):
            same = int(random.integers(0, 6))
            first = [random.choice(NOUNS) for _ in range(5)]
            second = first[:same] + [random.choice(VERBS) for _ in range(5 - same)]
            rows.append({"sentence1": " ".join(first), "sentence2": " ".join(second), "label": str(float(same))})
        write(folder / "stsb" / f"{split}.csv", rows)
    return folder


@pytest.fixture(scope="session")
def classifiers(tmp_path_factory, data) -> dict[str, str]:
    """Two classifiers of the reviews, one of them an inhibitor, both trained by the library."""
    from inhibitor_transformers.distill.task import FinetuneArguments, FineTuning
    from inhibitor_transformers.tasks import load_task

    folder = tmp_path_factory.mktemp("classifiers")
    sources = {"softmax": bert(), "inhibitor": InhibiDistilBertModel.from_teacher(bert())}
    for name, model in sources.items():
        settings = {"per_device_train_batch_size": 16, "learning_rate": 3e-3, "max_length": 16, "use_cpu": True}
        arguments = FinetuneArguments(num_train_epochs=2, disable_tqdm=True, **settings)
        source = saved(model, folder / f"{name}-encoder")
        FineTuning(source, load_task("custom", data), arguments, folder / name, log=lambda _: None).run()
    return {name: str(folder / name) for name in sources}


class TestFinetune:
    def test_own_data(self, inhibit, student, data, tmp_path):
        done = inhibit("finetune", student, "--task", "custom", "--data", data, "--output", tmp_path / "run", *QUICK)
        assert done.status == 0, done.err
        assert "accuracy" in done.out
        assert f"saved in {tmp_path / 'run'}" in done.out
        assert "memory, estimated: " in done.out
        assert "accuracy 0." in done.out[: done.out.index("custom, ")]  # the log of an epoch, as a line
        model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "run")
        assert type(model) is InhibiDistilBertForSequenceClassification

    def test_with_a_teacher_both_rows_are_shown(self, inhibit, student, classifiers, data, tmp_path):
        arguments = [
            "--task",
            "custom",
            "--data",
            data,
            "--output",
            tmp_path / "run",
            "--teacher",
            classifiers["softmax"],
        ]
        done = inhibit("finetune", student, *arguments, *QUICK)
        assert done.status == 0, done.err
        assert "teacher on custom validation: accuracy" in done.out
        table = done.out[done.out.index("custom, ") :]
        rows = [line.replace("│", "").split() for line in table.splitlines()]
        assert {"model", "teacher"} <= {row[0] for row in rows if row}

    @pytest.mark.parametrize(
        ("flags", "message"),
        [
            (["--epochs", "0"], "--epochs must be positive, got 0.0"),
            (["--epochs", "-1"], "--epochs must be positive, got -1.0"),
            (["--epochs", "nan"], "--epochs must be positive, got nan"),
            (["--learning-rate", "0"], "--learning-rate must be positive, got 0.0"),
            (["--learning-rate", "inf"], "--learning-rate must be positive, got inf"),
            (["--set", "per_device_train_batch_size=0"], "per_device_train_batch_size must be positive, got 0"),
            (["--set", "seed=-1"], "seed must be from 0 to 4294967295, got -1"),
            (["--set", "max_steps=0"], "max_steps must be positive (or -1: num_train_epochs decides), got 0"),
            (["--max-train-examples", "0"], "max_train_examples must be at least 1, got 0"),
            (["--epochs", "1", "--set", "num_train_epochs=2"], "'num_train_epochs' is given by --epochs and by --set"),
        ],
    )
    def test_numbers_that_would_train_nothing(self, refused, student, data, tmp_path, flags, message):
        """`--epochs 0` saved an untrained model, with exit status 0."""
        line = refused("finetune", student, "--task", "custom", "--data", data, "-o", tmp_path / "run", *flags)
        assert message in line
        assert not (tmp_path / "run").exists()

    def test_weights_that_are_nan(self, refused, student, data, tmp_path):
        model = InhibiDistilBertModel.from_pretrained(student)
        with torch.no_grad():
            model.embeddings.word_embeddings.weight[7, 0] = float("inf")
        broken = saved(model, tmp_path / "broken")
        task = ["--task", "custom", "--data", data, "-o", tmp_path / "run"]
        assert f"{broken!r} has weights that are NaN or infinite" in refused("finetune", broken, *task)
        assert repr(broken) in refused("finetune", student, "--teacher", broken, *task)
        assert not (tmp_path / "run").exists()

    def test_from_the_teacher_s_task_vector(self, inhibit, student, classifiers, data, tmp_path):
        sources = ["--teacher", classifiers["softmax"], "--teacher-base", classifiers["softmax"] + "-encoder"]
        flags = ["--task", "custom", "--data", data, "--output", tmp_path / "run"]
        done = inhibit("finetune", student, *flags, *sources, *QUICK)
        assert done.status == 0, done.err
        assert "with the teacher's task vector on custom validation: accuracy" in done.out
        assert "before training" in done.out[done.out.index("custom, ") :]

    def test_columns_of_other_names(self, inhibit, student, tmp_path):
        rows = [{"words": row["text"], "mood": row["label"]} for row in reviews(120)]
        write(tmp_path / "data.csv", rows)
        flags = ["--data", tmp_path / "data.csv", "--text-column", "words", "--label-column", "mood"]
        done = inhibit("finetune", student, "--task", "custom", "--output", tmp_path / "run", *flags, *QUICK)
        assert done.status == 0, done.err
        assert "is held out" in done.out

    def test_yaml_set_and_flags(self, inhibit, student, data, tmp_path):
        """A YAML gives defaults, --set overrides it, a flag overrides both; a default of a flag overrides nothing."""
        file = tmp_path / "settings.yaml"
        file.write_text("seed: 7\nlearning_rate: 2e-4\nweight_decay: 0.02\nnum_train_epochs: 9\nmax_length: 16\n")
        flags = ["--config", file, "--set", "weight_decay=0.03", "--epochs", "0.2", "--batch-size", "16"]
        done = inhibit("finetune", student, "--task", "custom", "--data", data, "--output", tmp_path / "run", *flags)
        assert done.status == 0, done.err
        record = yaml.safe_load((tmp_path / "run" / "run.yaml").read_text())
        found = {n: record[n] for n in ("seed", "learning_rate", "weight_decay", "num_train_epochs", "max_length")}
        assert found == {
            "seed": 7,
            "learning_rate": 2e-4,
            "weight_decay": 0.03,
            "num_train_epochs": 0.2,
            "max_length": 16,
        }

    def test_a_seed_on_the_command_line(self, inhibit, student, data, tmp_path):
        arguments = ["--task", "custom", "--data", data, *QUICK]
        for name, seed in (("a", []), ("b", ["--seed", "0"]), ("c", ["--seed", "1"])):
            inhibit("finetune", student, "--output", tmp_path / name, *arguments, *seed)
        assert_same_weights(tmp_path / "a", tmp_path / "b")
        a, c = (weights_of(tmp_path / name)["classifier.weight"] for name in "ac")
        assert not (a == c).all()

    def test_a_subset(self, inhibit, student, data, tmp_path):
        limits = ["--max-train-examples", "32", "--max-eval-examples", "20"]
        done = inhibit(
            "finetune", student, "--task", "custom", "--data", data, "--output", tmp_path / "run", *QUICK, *limits
        )
        assert "32 of 160 train examples are used" in done.out
        assert "20 of 60 validation examples are used" in done.out

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("--task", "sst3"), "unknown task 'sst3'; known: cola"),
            (("--task", "custom", "--data", "none"), "none: no such file or folder"),
            (("--task", "custom"), "the task 'custom' needs your data"),
            (("--task", "sst2", "--set", "epochs=3"), "fine-tuning has no setting 'epochs'"),
            (("--task", "sst2", "--set", "max_length=4"), "max_length must be at least 8 tokens, got 4"),
            (("--task", "sst2", "--config", "none.yaml"), "cannot read none.yaml"),
        ],
    )
    def test_mistakes(self, arguments, message, refused, student, tmp_path):
        assert message in refused("finetune", student, "--output", tmp_path / "run", *arguments)
        assert not (tmp_path / "run").exists()

    def test_a_teacher_of_chance(self, refused, student, data, tmp_path):
        model = bert(BertForSequenceClassification)
        model.classifier.weight.data.zero_()
        teacher = saved(model, tmp_path / "teacher")
        flags = ["--task", "custom", "--data", data, "--output", tmp_path / "run", "--teacher", teacher]
        assert "is no better than chance on custom validation" in refused("finetune", student, *flags, *QUICK)

    def test_an_existing_folder(self, refused, student, data, tmp_path):
        (tmp_path / "mine.txt").write_text("mine")
        message = refused("finetune", student, "--task", "custom", "--data", data, "--output", tmp_path, *QUICK)
        assert "exists and holds no run" in message
        assert (tmp_path / "mine.txt").exists()


class TestEvaluateTask:
    def test_models_side_by_side(self, inhibit, classifiers, data, tmp_path):
        models = [classifiers["inhibitor"], "--teacher", classifiers["softmax"]]
        file = tmp_path / "scores.json"
        done = inhibit("evaluate", *models, "--task", "custom", "--data", data, "--output", file, "--max-length", "16")
        assert done.status == 0, done.err
        record = json.loads(file.read_text())
        assert record["title"] == "custom"
        assert list(record["rows"]) == [classifiers["softmax"], classifiers["inhibitor"]]  # the teacher first
        for name, row in record["rows"].items():
            trained = json.loads((Path(name) / "results.json").read_text())["scores"]
            assert {split: row[split] for split in trained} == trained
            (speed,) = row["speed"].values()
            assert speed > 0
        assert "accuracy" in done.out
        assert "sequences/s" in done.out

    def test_what_was_held_out_depends_on_the_seed(self, inhibit, classifiers, tmp_path, monkeypatch):
        """With another seed than in training, examples that were trained on would count as held out."""
        from inhibitor_transformers.evaluation import compare
        from inhibitor_transformers.tasks import load_task

        write(tmp_path / "data.csv", reviews(100))
        found = []
        monkeypatch.setattr(
            compare, "by_task", lambda _, data, *rest: found.append(data.evaluation["held_out"][:]) or {}
        )
        for seed in ("0", "1"):
            flags = ["--task", "custom", "--data", tmp_path / "data.csv", "--seed", seed]
            inhibit("evaluate", classifiers["inhibitor"], *flags)
        trained = [load_task("custom", tmp_path / "data.csv", seed=seed).evaluation["held_out"][:] for seed in (0, 1)]
        assert found == trained
        assert trained[0] != trained[1]

    def test_columns_of_other_names(self, inhibit, classifiers, tmp_path):
        write(tmp_path / "data.csv", [{"words": row["text"], "mood": row["label"]} for row in reviews(60)])
        flags = ["--data", tmp_path / "data.csv", "--text-column", "words", "--label-column", "mood"]
        done = inhibit("evaluate", classifiers["inhibitor"], "--task", "custom", *flags, "--max-length", "16")
        assert done.status == 0, done.err

    def test_the_table_goes_into_the_card(self, inhibit, refused, classifiers, data, tmp_path):
        model = shutil.copytree(classifiers["inhibitor"], tmp_path / "model")
        flags = ["--task", "custom", "--data", data, "--max-length", "16", "--card"]
        done = inhibit("evaluate", model, "--teacher", classifiers["softmax"], *flags, model)
        assert done.status == 0, done.err
        card = (model / "README.md").read_text()
        assert all(f"| {name} |" in card.replace("\\", "") for name in (model, classifiers["softmax"]))
        assert "sequences/s" in card
        assert "none of the models" in refused("evaluate", model, *flags, classifiers["softmax"])

    def test_data_with_other_labels(self, refused, inhibit, classifiers, tmp_path):
        """It was scored without a word, "no" as "0" and "yes" as "1"."""
        rows = [row | {"label": "yes" if row["label"] else "no"} for row in reviews(60)]
        write(tmp_path / "data.csv", rows)
        flags = ["--task", "custom", "--data", tmp_path / "data.csv", "--max-length", "16"]
        line = refused("evaluate", classifiers["inhibitor"], *flags)
        assert f"{classifiers['inhibitor']!r} tells 0, 1 apart, custom no, yes: it was made for other labels" in line
        model = AutoModelForSequenceClassification.from_pretrained(classifiers["inhibitor"])
        model.config.id2label = {0: "NO", 1: "Yes"}
        named = saved(model, tmp_path / "named")
        done = inhibit("evaluate", named, *flags)
        assert done.status == 0, done.err
        assert "custom: no validation split" in done.out  # what was done to the data is told here too

    def test_texts_of_no_length(self, refused, classifiers, data):
        line = refused("evaluate", classifiers["inhibitor"], "--task", "custom", "--data", data, "--max-length", "0")
        assert "--max-length must be at least 8 tokens, got 0" in line

    def test_a_model_without_a_head(self, refused, student, data):
        message = refused("evaluate", student, "--task", "custom", "--data", data)
        assert "would be random" in message

    def test_texts_longer_than_the_model(self, refused, classifiers, data):
        message = refused("evaluate", classifiers["softmax"], "--task", "custom", "--data", data, "--max-length", "300")
        assert "300 tokens are more than this bert model can read (160)" in message


class TestEvaluateZeroShot:
    def test_stsb_by_cosine_similarity(self, inhibit, teacher, student, stsb, tmp_path):
        file = tmp_path / "scores.json"
        done = inhibit("evaluate", student, teacher, "--task", "sts-zero-shot", "--data", stsb, "--output", file)
        assert done.status == 0, done.err
        rows = json.loads(file.read_text())["rows"]
        assert list(rows) == [student, teacher]
        assert all(0.3 < row["zero-shot"]["spearman"] <= 1 for row in rows.values())

    def test_without_a_validation_split(self, inhibit, student, stsb, tmp_path):
        """A folder with a train file alone once ended in a KeyError."""
        rows = (stsb / "stsb" / "validation.csv").read_text()
        (tmp_path / "stsb").mkdir()
        (tmp_path / "stsb" / "train.csv").write_text(rows)
        done = inhibit("evaluate", student, "--task", "sts-zero-shot", "--data", tmp_path)
        assert done.status == 0, done.err


class TestEvaluateAgreement:
    def test_embeddings_against_the_teacher_s(self, inhibit, teacher, student, texts, tmp_path):
        file = tmp_path / "scores.json"
        flags = ["--task", "agreement", "--text", texts, "--lengths", "16,64", "--output", file]
        done = inhibit("evaluate", student, "--teacher", teacher, *flags)
        assert done.status == 0, done.err
        rows = json.loads(file.read_text())["rows"]
        assert list(rows) == [teacher, student]
        assert list(rows[student]["mean cosine"]) == ["16 tokens", "64 tokens"]
        assert all(-1 <= value < 0.999 for value in rows[student]["mean cosine"].values())
        assert rows[teacher]["mean cosine"] == pytest.approx({"16 tokens": 1.0, "64 tokens": 1.0}, abs=1e-5)
        assert all(row["speed"] for row in rows.values())

    def test_only_held_out_texts_are_compared(self, inhibit, teacher, student, texts, monkeypatch):
        from inhibitor_transformers.evaluation import compare
        from inhibitor_transformers.tasks import load_texts, split_held_out

        seen = []
        monkeypatch.setattr(compare, "by_agreement", lambda sources, texts, *_: seen.append(texts) or {})
        flags = ["--teacher", teacher, "--task", "agreement", "--text", texts]
        for seed in ("0", "5"):
            inhibit("evaluate", student, *flags, "--seed", seed)
        expected = set(split_held_out(load_texts(texts))[1])
        assert [set(found) for found in seen] == [expected, expected]

    @pytest.mark.parametrize(
        ("lengths", "message"),
        [
            ("32,many", "--lengths must be whole numbers, such as 32,64, got '32,many'"),
            ("4", "--lengths must be at least 8 tokens each, got '4'"),
            ("64,200", "200 tokens are more than this bert model can read (160)"),
        ],
    )
    def test_lengths(self, lengths, message, refused, teacher, student, texts):
        flags = ["--teacher", teacher, "--task", "agreement", "--text", texts]
        assert message in refused("evaluate", student, *flags, "--lengths", lengths)

    def test_texts_that_are_too_short(self, refused, teacher, student, tmp_path):
        (tmp_path / "short.txt").write_text("\n".join(f"the {a} sees the {b}" for a in NOUNS for b in NOUNS))
        flags = ["--teacher", teacher, "--task", "agreement", "--text", tmp_path / "short.txt", "--lengths", "32,64"]
        assert "is as long as 32 tokens" in refused("evaluate", student, *flags)

    def test_without_a_teacher(self, refused, student):
        message = refused("evaluate", student, "--task", "agreement")
        assert message == "error: agreement is measured against a teacher; name it with --teacher"

    def test_another_tokenizer(self, refused, teacher, texts, tmp_path):
        other = saved(roberta(), tmp_path / "roberta", roberta_tokenizer())
        flags = ["--teacher", teacher, "--task", "agreement", "--text", texts, "--lengths", "16"]
        assert "must share a tokenizer" in refused("evaluate", other, *flags)

    def test_another_width(self, refused, teacher, texts, tmp_path):
        other = saved(bert(hidden_size=16), tmp_path / "narrow", bert_tokenizer())
        flags = ["--teacher", teacher, "--task", "agreement", "--text", texts, "--lengths", "16"]
        assert "have 16 numbers, of" in refused("evaluate", other, *flags)


class TestProgress:
    """Every kind of evaluation shows how far it is, in all that takes long."""

    def test_of_a_task(self, phases, classifiers, data):
        found = phases("evaluate", *classifiers.values(), "--task", "custom", "--data", data)
        assert {"reading train.csv", "checking validation.csv"} <= found
        assert {"models", "tokenizing", "predicting", "measuring speed"} <= found

    def test_of_similarities(self, phases, student, stsb):
        found = phases("evaluate", student, "--task", "sts-zero-shot", "--data", stsb)
        assert {"models", "tokenizing", "embedding", "measuring speed"} <= found

    def test_of_agreement(self, phases, teacher, student, texts):
        flags = ["--teacher", teacher, "--task", "agreement", "--text", texts, "--lengths", "16,64"]
        assert {"models", "tokenizing", "embedding", "measuring speed"} <= phases("evaluate", student, *flags)

    def test_of_fine_tuning_with_a_teacher(self, phases, student, classifiers, data, tmp_path):
        sources = ["--teacher", classifiers["softmax"], "--data", data, "--output", tmp_path / "run"]
        found = phases("finetune", student, "--task", "custom", *sources, *QUICK, "--max-train-examples", "32")
        assert {"tokenizing", "predicting", "asking the teacher"} <= found


class TestTable:
    @pytest.fixture
    def values(self, inhibit, teacher, student, texts, tmp_path, monkeypatch) -> Any:
        """Runs agreement on a terminal of so many columns; returns the table and the numbers that must be in it."""

        def run(columns: str | None) -> tuple[list[str], list[str]]:
            monkeypatch.setenv("COLUMNS", columns) if columns else monkeypatch.delenv("COLUMNS")
            flags = ["--teacher", teacher, "--task", "agreement", "--text", texts, "--lengths", "16,32,64,128"]
            done = inhibit("evaluate", student, *flags, "--output", tmp_path / "scores.json")
            rows = json.loads((tmp_path / "scores.json").read_text())["rows"]
            numbers = [f"{v:.4g}" for row in rows.values() for part in row.values() for v in part.values()]
            assert len(numbers) == 10
            return done.out.splitlines(), numbers

        return run

    @pytest.mark.parametrize("columns", ["40", "80"])
    def test_a_narrow_terminal_loses_no_value(self, columns, values):
        """At 80 columns the longest texts had no column."""
        lines, numbers = values(columns)
        assert max(map(len, lines)) <= int(columns)
        assert set(numbers) <= set(" ".join(lines).split())

    @pytest.mark.parametrize("columns", [None, "0"])
    def test_a_file_has_rows_of_any_length(self, columns, values):
        lines, numbers = values(columns)
        assert numbers[:5] == next(line.split()[1:] for line in lines if line.startswith("/"))


class TestOutput:
    def test_an_existing_file_is_kept_unless_asked(self, inhibit, refused, student, stsb, tmp_path):
        file = tmp_path / "scores.json"
        arguments = ["evaluate", student, "--task", "sts-zero-shot", "--data", stsb, "--output", file]
        for mine in ("mine", '{"title": "mine"}', "[]"):
            file.write_text(mine)
            for flags in ((), ("--overwrite",)):
                assert f"{file} exists and holds no scores" in refused(*arguments, *flags)
            assert file.read_text() == mine
        file.write_text('{"title": "sts-zero-shot", "rows": {}}')
        assert f"{file} exists; add --overwrite to replace it" in refused(*arguments)
        assert inhibit(*arguments, "--overwrite").status == 0
        assert json.loads(file.read_text())["title"] == "sts-zero-shot"

    def test_a_folder_is_told_before_anything_is_measured(self, refused, student, tmp_path):
        message = refused("evaluate", student, "--task", "sts-zero-shot", "--output", tmp_path, "--overwrite")
        assert f"{tmp_path} is a folder; name a file" in message


def test_an_unknown_task(refused, student):
    assert "unknown task 'nothing'" in refused("evaluate", student, "--task", "nothing")


def test_a_model_that_is_not_there(refused, data, tmp_path):
    message = refused("evaluate", tmp_path / "none", "--task", "custom", "--data", data)
    assert "cannot load" in message


def test_quickstart_keeps_an_existing_folder(refused, minilm_path, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    for flags in ((), ("--overwrite",)):
        assert "choose another folder" in refused("quickstart", "--output", tmp_path, *flags)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_the_help_names_every_task(inhibit):
    """The names are written out there, so that the help does not wait for numpy."""
    from inhibitor_transformers.tasks import TASKS

    words = set(inhibit("finetune", "--help").out.replace(",", " ").replace(":", " ").split())
    assert {*TASKS, "custom"} <= words
