"""The report of a converted model: what it measures, and which models it refuses."""

from __future__ import annotations

import copy

import pytest

from inhibitor_transformers import convert
from inhibitor_transformers.evaluation.model_report import conversion_table, report_on_pictures, report_on_texts
from inhibitor_transformers.tasks.modalities.pictures import NamedPicture
from tests.evaluation import converted
from tests.models.conversion import zoo
from tests.tasks.modalities.tiny import png


def test_of_pictures() -> None:
    pictures = [NamedPicture(f"{i}.png", png(i)) for i in range(2)]
    report = report_on_pictures(*converted.vit(), pictures, names=("mine", "theirs"))
    assert [picture.name for picture in report.pictures] == ["0.png", "1.png"]
    assert report.continuations == []
    assert (report.student, report.teacher, report.model) == ("mine", "theirs", "InhibitorViTForImageClassification")
    assert report.converted == (2, 2)


def test_of_texts() -> None:
    report = report_on_texts(*converted.gpt2(), ["the cat", "a dog"], names=("mine", "theirs"), new_tokens=3)
    assert [c.prompt for c in report.continuations] == ["the cat", "a dog"]
    assert report.pictures == []
    assert ("student", "mine") in report.facts


def test_the_conversion_tells_what_was_left_and_why() -> None:
    teacher = zoo.teacher("GPT2")
    names = [site.name for site in zoo.student("GPT2").config.record.sites]
    student = convert(teacher, zoo.example("GPT2"), modules=names[:1])
    table = conversion_table(student.inhibitor_report())
    described = "GPT2Attention, 4 heads of 8, causal"
    rest = [[name, "softmax", "not asked for"] for name in names[1:]]
    assert [row[:2] for row in table.rows] == [[names[0], "inhibitor"], *(row[:2] for row in rest)]
    assert table.rows[0][2].startswith(described.split(",")[0])
    assert table.rows[1:] == rest
    for row in table.rows:
        assert row[2] in str(student.inhibitor_report())


def test_a_teacher_of_other_classes() -> None:
    student, teacher, processor = converted.vit()
    other = copy.deepcopy(teacher)
    other.config.id2label = {0: "cat", 1: "dog", 2: "bird"}
    with pytest.raises(ValueError, match="different classes"):
        report_on_pictures(student, other, processor, [NamedPicture("a.png", png(0))], names=("a", "b"))


def test_a_teacher_of_another_vocabulary() -> None:
    student, teacher, tokenizer = converted.gpt2()
    other = copy.deepcopy(teacher)
    other.config.vocab_size = 99
    with pytest.raises(ValueError, match="share a vocabulary, and have 14 and 99 tokens"):
        report_on_texts(student, other, tokenizer, ["the cat"], names=("a", "b"), new_tokens=3)


def test_models_that_read_something_else() -> None:
    pictures, texts = [NamedPicture("a.png", png(0))], ["the cat"]
    names = ("a", "b")
    with pytest.raises(ValueError, match="reads input_ids, not pictures alone"):
        report_on_pictures(*converted.gpt2(), pictures, names=names)
    with pytest.raises(ValueError, match="reads pixel_values, not texts alone"):
        report_on_texts(*converted.vit(), texts, names=names, new_tokens=3)
    with pytest.raises(ValueError, match="is an encoder-decoder"):
        report_on_texts(zoo.student("T5"), zoo.teacher("T5"), None, texts, names=names, new_tokens=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="reads input_ids, not pictures alone: convert the part that does"):
        report_on_pictures(zoo.student("CLIP"), zoo.teacher("CLIP"), None, pictures, names=names)
