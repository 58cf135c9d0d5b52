"""`inhibit report`: a page of pictures, one of texts, and what is refused before any work."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.evaluation import converted
from tests.report.cases import Page
from tests.tasks.modalities.tiny import png


@pytest.fixture(scope="module")
def decoder(tmp_path_factory) -> tuple[str, str]:
    return converted.saved(converted.gpt2(), tmp_path_factory.mktemp("decoder"))


@pytest.fixture(scope="module")
def vision(tmp_path_factory) -> tuple[str, str]:
    return converted.saved(converted.vit(), tmp_path_factory.mktemp("vision"))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(3):
        (folder / f"{i}.png").write_bytes(png(i))
    return folder


def read(file: Path) -> Page:
    return Page(file.read_text(encoding="utf-8"))


def test_pictures(inhibit, vision, photos, tmp_path) -> None:
    student, teacher = vision
    file = tmp_path / "new" / "page.html"
    given = (student, "--teacher", teacher, "--images", photos, "--max-examples", "2", "-o", file, "--device", "cpu")
    done = inhibit("report", *given)
    assert done.status == 0, done.err
    assert done.out.strip() == f"page written to {file}"
    page = read(file)
    assert page.text_of("h1") == ["student: inhibitor attention beside softmax"]
    assert [title for title in page.text_of("h2") if "Picture" in title] == ["Picture 1: 0.png", "Picture 2: 1.png"]
    assert len(page.all("rect")) == 2 * 2 * 2 * 4, "pictures, layers, models, patches"


def test_texts_as_they_are_and_from_a_file(inhibit, decoder, tmp_path) -> None:
    student, teacher = decoder
    lines = tmp_path / "lines.txt"
    lines.write_text("a big dog likes the old cat\nthe cat sees the dog and a tree\n")
    texts = ("--text", "the cat sees a big dog", "--text", lines)
    file = tmp_path / "page.html"
    done = inhibit("report", student, "--teacher", teacher, *texts, "--new-tokens", "5", "-o", file)
    assert done.status == 0, done.err
    page = read(file)
    assert [title for title in page.text_of("h2") if "Text" in title] == ["Text 1", "Text 2", "Text 3"]
    assert {"the cat sees a big dog", "a big dog likes the old cat"} <= set(page.text_of("span"))
    assert len([text for text in page.text_of("span") if "of 5 next tokens" in text]) == 3
    assert "GPT2Attention, 2 heads of 8, causal" in page.text_of("td")


def test_an_older_page_is_replaced_on_request_only(inhibit, refused, vision, photos, tmp_path) -> None:
    student, teacher = vision
    file = tmp_path / "page.html"
    given = ("report", student, "--teacher", teacher, "--images", photos, "-o", file)
    assert inhibit(*given, "--max-examples", "1").status == 0
    before = file.read_bytes()
    assert "exists; add --overwrite to replace it" in refused(*given)
    assert file.read_bytes() == before
    assert inhibit(*given, "--max-examples", "2", "--overwrite").status == 0
    assert len(file.read_bytes()) > len(before)
    file.write_text("mine")
    assert "holds no page of this command" in refused(*given, "--overwrite")
    assert file.read_text() == "mine"


def test_neither_or_both_kinds_of_examples(refused, vision, photos, tmp_path) -> None:
    given = ("report", vision[0], "--teacher", vision[1], "-o", tmp_path / "page.html")
    wanted = "give either texts to continue (--text) or pictures (--images)"
    assert wanted in refused(*given)
    assert wanted in refused(*given, "--text", "a", "--images", photos)


def test_no_pictures_are_found(refused, vision, tmp_path) -> None:
    given = ("report", vision[0], "--teacher", vision[1], "-o", tmp_path / "page.html", "--images")
    (tmp_path / "empty").mkdir()
    assert "no picture (.png, .jpg" in refused(*given, tmp_path / "empty")
    assert "no such file or folder of pictures" in refused(*given, tmp_path / "gone")
    assert not (tmp_path / "page.html").exists()


def test_models_that_do_not_belong_together(refused, vision, decoder, photos, tmp_path) -> None:
    output = ("-o", tmp_path / "page.html")
    assert "no model made by convert()" in refused(
        "report", vision[1], "--teacher", vision[1], "--images", photos, *output
    )
    assert "inhibitor attention itself" in refused(
        "report", decoder[0], "--teacher", decoder[0], "--text", "the cat", *output
    )
    other = converted.heads.vit()  # LABEL_0 … in place of cat, dog, frog
    folder = tmp_path / "other"
    other.save_pretrained(folder)
    converted.image_processor().save_pretrained(folder)
    assert "tell different classes apart" in refused(
        "report", vision[0], "--teacher", folder, "--images", photos, *output
    )
    assert not (tmp_path / "page.html").exists()


def test_a_teacher_without_a_tokenizer(refused, vision, tmp_path) -> None:
    given = ("--text", "the cat", "-o", tmp_path / "page.html")
    assert "no tokenizer found in" in refused("report", vision[0], "--teacher", vision[1], *given)
