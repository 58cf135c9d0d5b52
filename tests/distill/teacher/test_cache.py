"""The teacher cache: what is read is what was computed, for no other teacher, tokenizer or texts, or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import BertForMaskedLM, BertForSequenceClassification

from inhibitor_transformers.common.settings import ConfigError
from inhibitor_transformers.distill.config import DistillConfig
from inhibitor_transformers.distill.data import StepBatches, token_windows
from inhibitor_transformers.distill.pairing import EncoderPairing
from inhibitor_transformers.distill.stages.align_attention import AlignAttention, AttentionOutputLoss
from inhibitor_transformers.distill.stages.align_hidden import AlignHidden, HiddenStateLoss
from inhibitor_transformers.distill.task.loss import TaskLoss
from inhibitor_transformers.distill.teacher import storage
from inhibitor_transformers.distill.teacher.cache import TeacherCache, TeacherCacheConfig
from inhibitor_transformers.distill.teacher.logits import add_teacher_logits
from inhibitor_transformers.distill.teacher.teacher import Teacher
from inhibitor_transformers.models import InhibiDistilBertForSequenceClassification, InhibiDistilBertModel, map_layers
from tests.distill.chains import distill, settings, trained
from tests.distill.tiny import (
    VOCABULARY,
    bert,
    bert_tokenizer,
    equal_variances,
    padded_batch,
    reviews,
    sentences,
    weights_of,
)

TEXTS = sentences(60)
ALL = [*(f"hidden-{i}" for i in range(3)), *(f"attention_outputs-{i}" for i in range(2))]
# Half of float16's distance between neighbors, relative; nothing is lost in float32 but the padding's effect on sums.
ROUNDING = {"float16": {"rtol": 2**-11, "atol": 1e-5}, "float32": {"rtol": 1e-5, "atol": 1e-5}}


class Calls:
    """Counts the forward passes of a model."""

    def __init__(self, teacher: Teacher) -> None:
        self.count = 0
        teacher.model.register_forward_pre_hook(self._called)

    def _called(self, *_: object) -> None:
        self.count += 1


def cache_in(folder: Path, *, teacher: Teacher | None = None, dtype: str = "float16", **others: object) -> TeacherCache:
    arguments = {"tokenizer": bert_tokenizer(), "texts": TEXTS} | others
    return TeacherCache(TeacherCacheConfig(str(folder), dtype), teacher or Teacher(bert()), **arguments)


def windows(seed: int = 0) -> list[np.ndarray]:
    return token_windows(TEXTS, bert_tokenizer(), [16, 32], seed=seed)


def batches(of: list[np.ndarray]) -> StepBatches:
    return StepBatches(of, bert_tokenizer(), steps=12, tokens_per_step=128, lengths=[16, 32])


def arrays(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.glob("*/*.npy"))


def quiet(_: str) -> None:
    pass


@pytest.mark.parametrize("dtype", ROUNDING)
def test_cached_outputs_are_those_of_the_teacher(dtype, tmp_path):
    teacher = Teacher(bert())
    made = cache_in(tmp_path, teacher=teacher, dtype=dtype).teacher_for(windows(), ALL, quiet)
    items = batches(windows())
    for index in range(len(items)):
        batch = items[index]
        valid = batch["attention_mask"].bool()
        expected, found = (t(batch, attention_outputs=True, hidden=True) for t in (teacher, made))
        for kind in ("hidden", "attention_outputs"):
            ours, theirs = getattr(found, kind), getattr(expected, kind)
            assert len(ours) == len(theirs)
            for a, b in zip(ours, theirs, strict=True):
                assert a.dtype == b.dtype
                torch.testing.assert_close(a[valid], b[valid], **ROUNDING[dtype])


@pytest.mark.parametrize(
    ("stage", "criterion"), [(AlignAttention, AttentionOutputLoss), (AlignHidden, HiddenStateLoss)]
)
def test_a_loss_asks_for_nothing_that_is_not_stored_and_calls_no_teacher(stage, criterion, tmp_path):
    teacher, layer_map = Teacher(bert()), map_layers([1], 2)
    student = InhibiDistilBertModel.from_teacher(teacher.model, [1])
    made = cache_in(tmp_path, teacher=teacher, dtype="float32").teacher_for(
        windows(), stage(output_dir=str(tmp_path), use_cpu=True).teacher_outputs(layer_map), quiet
    )
    batch = batches(windows())[0]
    variances = [1.0] if criterion is AttentionOutputLoss else equal_variances(layer_map)
    pairing = EncoderPairing(student, teacher, layer_map)
    expected = criterion(pairing, variances)(student, batch, 10.0)
    calls = Calls(teacher)
    found = criterion(pairing.with_teacher(made), variances)(student, batch, 10.0)
    assert calls.count == 0
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-6)


def test_what_is_there_is_not_computed_again(tmp_path):
    """Runs share a folder; a later one adds what it needs besides."""
    cache_in(tmp_path).teacher_for(windows(), ["hidden-1"], quiet)
    teacher = Teacher(bert())
    calls, said = Calls(teacher), []
    cache_in(tmp_path, teacher=teacher).teacher_for(windows(), ["hidden-1"], said.append)
    assert calls.count == 0
    assert said == [f"teacher outputs: 1 arrays from {next(tmp_path.glob('*/'))}"]
    cache_in(tmp_path, teacher=teacher).teacher_for(windows(), ["hidden-1", "hidden-2"], quiet)
    assert calls.count > 0
    assert arrays(tmp_path) == ["hidden-1.npy", "hidden-2.npy"]


def test_other_windows_of_the_same_texts_are_kept_apart(tmp_path):
    for seed in (0, 1):
        cache_in(tmp_path).teacher_for(windows(seed), ["hidden-1"], quiet)
    for dtype in ROUNDING:
        cache_in(tmp_path, dtype=dtype).teacher_for(windows(), ["hidden-1"], quiet)
    assert arrays(tmp_path) == ["hidden-1.npy"] * 3


def test_the_head_of_a_teacher_does_not_matter(tmp_path):
    """A stage for masked LM loads another class of the same encoder."""
    teacher = bert(BertForMaskedLM)
    cache_in(tmp_path, teacher=Teacher(teacher)).teacher_for(windows(), ["hidden-1"], quiet)
    encoder = bert(seed=9)
    encoder.load_state_dict(teacher.bert.state_dict(), strict=False)  # its pooler is another one
    cache_in(tmp_path, teacher=Teacher(encoder))


OTHERS = {
    "teacher": {"teacher": Teacher(bert(seed=1))},
    "tokenizer": {"tokenizer": bert_tokenizer((*VOCABULARY, "new"))},
    "collection of texts": {"texts": TEXTS[1:]},
    "teacher and another collection of texts": {"teacher": Teacher(bert(layer_norm_eps=1e-3)), "texts": TEXTS[1:]},
}


@pytest.mark.parametrize("differing", OTHERS)
def test_outputs_of_something_else_are_refused(differing, tmp_path):
    cache_in(tmp_path).teacher_for(windows(), ["hidden-1"], quiet)
    with pytest.raises(ConfigError, match=f"was made with another {differing}; name another folder"):
        cache_in(tmp_path, **OTHERS[differing])


def test_the_order_of_the_texts_does_not_matter(tmp_path):
    cache_in(tmp_path).teacher_for(windows(), ["hidden-1"], quiet)
    cache_in(tmp_path, texts=TEXTS[::-1])


class StoppedError(Exception):
    pass


def test_an_interruption_leaves_nothing(tmp_path, monkeypatch):
    teacher = Teacher(bert())
    cache = cache_in(tmp_path, teacher=teacher)
    calls = Calls(teacher)

    def stop(*_: object) -> None:
        if calls.count == 3:
            raise StoppedError

    handle = teacher.model.register_forward_pre_hook(stop)
    monkeypatch.setattr("inhibitor_transformers.distill.teacher.cache._TOKENS_AT_ONCE", 128)
    with pytest.raises(StoppedError):
        cache.teacher_for(windows(), ALL, quiet)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [tmp_path / "made_with.json"]
    handle.remove()
    cache.teacher_for(windows(), ALL, quiet)
    assert len(arrays(tmp_path)) == len(ALL)


def test_a_half_written_array_of_a_killed_run_is_not_used(tmp_path):
    """What was cut off is under another name; were it not, it could not be opened."""
    cache_in(tmp_path).teacher_for(windows(), ["hidden-1"], quiet)
    (file,) = tmp_path.glob("*/hidden-1.npy")
    (file.parent / "half-killed").mkdir()
    half = file.rename(file.parent / "half-killed" / "hidden-1.npy")
    half.write_bytes(half.read_bytes()[:-100])
    teacher = Teacher(bert())
    calls = Calls(teacher)
    cache_in(tmp_path, teacher=teacher).teacher_for(windows(), ["hidden-1"], quiet)
    assert calls.count > 0
    shutil.copy(half, file)
    with pytest.raises(ValueError, match=r"hidden-1\.npy is damaged"):
        cache_in(tmp_path).teacher_for(windows(), ["hidden-1"], quiet)


def test_the_size_is_said_before_and_a_full_disk_is_an_error(tmp_path, monkeypatch):
    said: list[str] = []
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(ConfigError, match=r"the teacher cache needs 0\.0 GiB in .*, where 0\.0 GiB are free"):
        cache_in(tmp_path).teacher_for(windows(), ALL, said.append)
    tokens = sum(map(len, windows()))
    assert said[0].startswith(f"teacher outputs: 5 arrays of {tokens} tokens, 0.00 GiB, to ")
    assert arrays(tmp_path) == []


def test_values_beyond_float16_are_refused(tmp_path):
    model = bert()
    with torch.no_grad():
        model.encoder.layer[0].output.LayerNorm.weight.fill_(1e6)
    with pytest.raises(
        ConfigError, match=r"hidden-1 reaches .*e\+06, which float16 cannot hold; set teacher_cache\.dt"
    ):
        cache_in(tmp_path, teacher=Teacher(model)).teacher_for(windows(), ["hidden-1"], quiet)
    assert arrays(tmp_path) == []


def test_a_batch_of_other_windows_than_it_says_is_an_error(tmp_path):
    made = cache_in(tmp_path).teacher_for(windows(), ["hidden-1"], quiet)
    batch = padded_batch([9, 14]) | {"window_indices": torch.tensor([0, 1])}
    with pytest.raises(ValueError, match=r"a batch of windows \[0, 1\] has \[9, 14\] tokens, the stored ones"):
        made(batch, hidden=True)


class TestRun:
    STAGES = (trained("align_attention"), trained("align_hidden"))

    def config(self, teacher: str, text: str, **others: object) -> dict[str, object]:
        return settings(teacher, text, [dict(stage) for stage in self.STAGES], **others)

    @pytest.fixture
    def config_with(self, teacher_path, text_path):
        return lambda **others: self.config(teacher_path, text_path, **others)

    @pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-4), ("float16", 5e-3)])
    def test_a_run_with_a_cache_ends_as_one_without(self, dtype, tolerance, config_with, tmp_path):
        distill(config_with(), tmp_path / "plain")
        distill(config_with(teacher_cache={"folder": str(tmp_path / "cache"), "dtype": dtype}), tmp_path / "cached")
        for stage in ("1-align_attention", "2-align_hidden"):
            logs = [json.loads((tmp_path / n / "stages" / stage / "log.json").read_text()) for n in ("plain", "cached")]
            plain, cached = ([e["loss"] for e in log if "loss" in e] for log in logs)
            assert cached == pytest.approx(plain, rel=tolerance)

    def test_a_second_run_computes_nothing_of_it(self, config_with, tmp_path, monkeypatch):
        config = config_with(teacher_cache=str(tmp_path / "cache"))
        distill(config, tmp_path / "first")

        def called(*_: object, **__: object) -> None:
            raise AssertionError("the teacher was asked")

        monkeypatch.setattr(Teacher, "__call__", called)
        said = distill(config, tmp_path / "second")
        assert sum("arrays from" in line for line in said) == 2
        ours, theirs = (weights_of(tmp_path / name) for name in ("first", "second"))
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)

    def test_a_cache_that_does_not_fit_is_refused_before_anything_is_made(self, config_with, tmp_path):
        cache_in(tmp_path / "cache").teacher_for(windows(), ["hidden-1"], quiet)
        with pytest.raises(ConfigError, match="was made with another collection of texts"):
            distill(config_with(teacher_cache=str(tmp_path / "cache")), tmp_path / "run")
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            (7, "teacher_cache must be a folder or a mapping, got 7"),
            ({"dtype": "float32"}, "teacher_cache needs folder"),
            ({"folder": "x", "dtype": "int8"}, "dtype must be one of float16, float32, got 'int8'"),
            ({"folder": "x", "type": "float16"}, "teacher_cache has no setting 'type'"),
            ("", "folder must be a path"),
        ],
    )
    def test_settings_that_make_no_sense(self, given, message, config_with):
        with pytest.raises(ConfigError, match=message):
            DistillConfig(**config_with(teacher_cache=given))

    def test_the_home_folder(self, config_with, tmp_path, monkeypatch):
        """The cache was written to ./~."""
        monkeypatch.setenv("HOME", str(tmp_path))
        given = {"teacher": "~/teacher", "init_from": Path("~/student"), "student": {}}
        config = DistillConfig(**(config_with(teacher_cache="~/cache") | given))
        found = config.build_cache().folder, config.teacher, config.init_from
        assert found == tuple(str(tmp_path / name) for name in ("cache", "teacher", "student"))


def encoded(examples: Sequence[dict[str, object]]) -> Dataset:
    inputs = bert_tokenizer()([example["text"] for example in examples])
    return Dataset.from_dict({**inputs, "labels": [example["label"] for example in examples]})


class TestLogits:
    @pytest.fixture
    def teacher(self) -> Teacher:
        return Teacher(bert(BertForSequenceClassification))

    @pytest.mark.parametrize("kept", [False, True])
    def test_every_example_has_those_of_the_teacher(self, kept, teacher, tmp_path):
        examples = encoded(reviews(70))
        folder = tmp_path / "logits" if kept else None
        made = add_teacher_logits(examples, teacher, bert_tokenizer(), folder, quiet)
        assert made.remove_columns("teacher_logits").to_dict() == examples.to_dict()
        for row in made:
            inputs = {name: torch.tensor([row[name]]) for name in ("input_ids", "attention_mask", "token_type_ids")}
            torch.testing.assert_close(torch.tensor(row["teacher_logits"]), teacher(inputs).logits[0])

    def test_a_second_run_reads_them(self, teacher, tmp_path):
        first = add_teacher_logits(encoded(reviews(40)), teacher, bert_tokenizer(), tmp_path, quiet)
        calls, said = Calls(teacher), []
        second = add_teacher_logits(encoded(reviews(40)), teacher, bert_tokenizer(), tmp_path, said.append)
        assert (calls.count, said) == (0, [f"teacher's logits: read from {tmp_path}"])
        assert first.to_dict() == second.to_dict()

    @pytest.mark.parametrize("differing", ["teacher", "tokenizer", "training set"])
    def test_those_of_something_else_are_refused(self, differing, teacher, tmp_path):
        add_teacher_logits(encoded(reviews(40)), teacher, bert_tokenizer(), tmp_path, quiet)
        other = Teacher(bert(BertForSequenceClassification))
        with torch.no_grad():  # another head on the same encoder
            other.model.classifier.bias += float(differing == "teacher")
        tokenizer = bert_tokenizer((*VOCABULARY, "new")) if differing == "tokenizer" else bert_tokenizer()
        examples = encoded(reviews(40, seed=int(differing == "training set")))
        with pytest.raises(ConfigError, match=f"was made with another {differing};"):
            add_teacher_logits(examples, other, tokenizer, tmp_path, quiet)

    def test_other_segments_are_another_training_set(self, teacher, tmp_path):
        examples = encoded(reviews(40))
        add_teacher_logits(examples, teacher, bert_tokenizer(), tmp_path, quiet)
        turned = examples.map(lambda row: {"token_type_ids": [1] * len(row["token_type_ids"])})
        with pytest.raises(ConfigError, match="another training set"):
            add_teacher_logits(turned, teacher, bert_tokenizer(), tmp_path, quiet)

    @pytest.mark.parametrize("alpha_hidden", [0.0, 0.2])
    def test_a_loss_takes_them_from_the_batch(self, alpha_hidden, teacher):
        student = InhibiDistilBertForSequenceClassification.from_teacher(teacher.model)
        batch = padded_batch([9, 14]) | {"labels": torch.tensor([0, 1])}
        criterion = TaskLoss(regression=False, teacher=teacher, alpha_soft=0.5, alpha_hidden=alpha_hidden)
        expected = criterion(student, batch, 2)
        batch["teacher_logits"] = teacher(batch).logits
        calls = Calls(teacher)
        assert criterion(student, batch, 2) == expected
        assert calls.count == (alpha_hidden > 0)

    def test_the_teacher_need_not_be_there_any_more(self, teacher):
        student = InhibiDistilBertForSequenceClassification.from_teacher(teacher.model)
        batch = padded_batch([9, 14]) | {"labels": torch.tensor([0, 1])}
        expected = TaskLoss(regression=False, teacher=teacher, alpha_soft=0.5)(student, batch, 2)
        batch["teacher_logits"] = teacher(batch).logits
        assert TaskLoss(regression=False, alpha_soft=0.5)(student, batch, 2) == expected


@pytest.mark.parametrize("content", ["", "{", "[]"])
def test_a_damaged_manifest_is_told_in_one_line(content, tmp_path):
    cache_in(tmp_path).teacher_for(windows(), ["hidden-1"], quiet)
    (tmp_path / "made_with.json").write_text(content)
    with pytest.raises(
        ConfigError, match=r"^[^\n]*made_with.json is damaged; delete this folder or name another[^\n]*$"
    ):
        cache_in(tmp_path)


@pytest.mark.parametrize("kept", [0, 0.5])
def test_a_damaged_array_is_told_in_one_line(kept, tmp_path):
    cache_in(tmp_path).teacher_for(windows(), ["hidden-1"], quiet)
    (file,) = tmp_path.glob("*/*.npy")
    content = file.read_bytes()
    file.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(ConfigError, match=r"hidden-1.npy is damaged; delete it, and it is computed again$"):
        cache_in(tmp_path).teacher_for(windows(), ["hidden-1"], quiet)
