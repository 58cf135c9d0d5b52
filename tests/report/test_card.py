"""Tables in a model card."""

from __future__ import annotations

import pytest
from huggingface_hub import ModelCard

from inhibitor_transformers.common.errors import ConfigError
from inhibitor_transformers.report import Table, require_own_card, write_card

TABLE = Table("Scores", ["", "sst2"], [["student", "81.0 ± 0.2"]])


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    return tmp_path


def test_a_new_card_says_what_it_is_and_holds_the_table(folder):
    card = ModelCard.load(write_card(folder, [TABLE]))
    assert card.data.to_dict()["library_name"] == "transformers"
    assert "inhibitor-attention" in card.data.tags
    assert "| student | 81.0 ± 0.2 |" in card.text
    assert "import `inhibitor_transformers`" in card.text.lower()


def test_what_an_existing_card_says_stays(folder):
    (folder / "README.md").write_text("---\nlicense: mit\n---\n\n# Mine\n\nOf my own.\n")
    for value in ("80.0", "82.0"):
        write_card(folder, [Table("Scores", ["", "sst2"], [["student", value]])])
    card = ModelCard.load(folder / "README.md")
    assert card.data.license == "mit"
    assert "Of my own." in card.text
    assert "82.0" in card.text
    assert "80.0" not in card.text
    (folder / "README.md").write_text((folder / "README.md").read_text() + "\nAt the end.\n")
    write_card(folder, [TABLE])
    assert ModelCard.load(folder / "README.md").text.count("At the end.") == 1


def test_tables_without_rows_are_left_out(folder):
    assert "Nothing" not in write_card(folder, [TABLE, Table("Nothing", [""], [])]).read_text()


def test_sections_are_replaced_one_by_one(folder):
    for section, value in (("scores", "1.0"), ("agreement", "2.0"), ("scores", "3.0")):
        write_card(folder, [Table(section, ["", "x"], [["student", value]])], section)
    text = (folder / "README.md").read_text()
    assert "2.0" in text
    assert "3.0" in text
    assert "1.0" not in text


def test_a_card_of_another_model(folder, tmp_path):
    require_own_card(folder, ["minilm", str(folder)])
    with pytest.raises(ValueError, match=r"none of the models \(minilm\)"):
        require_own_card(folder, ["minilm"])
    with pytest.raises(ValueError, match="holds no model"):
        require_own_card(tmp_path / "new", [str(tmp_path / "new")])


def test_all_but_the_section_stays_to_the_byte(folder):
    """The front matter was written anew, without its comments, and CRLF became LF."""
    file = folder / "README.md"
    head = "---\r\nlicense:   mit  # a comment\r\n---\r\n\r\n\r\n# Mine  \r\n"
    file.write_bytes(head.encode())
    write_card(folder, [TABLE])
    file.write_bytes(file.read_bytes() + b"\r\n  at the end, without a line end")
    for value in ("1.0", "2.0"):
        write_card(folder, [Table("Scores", ["", "sst2"], [["student", value]])])
    content = file.read_bytes().decode()
    assert content.startswith(head)
    assert content.endswith("\r\n  at the end, without a line end")
    assert content.count("\n") == content.count("\r\n")
    assert ("1.0" in content, "2.0" in content) == (False, True)


def test_front_matter_that_is_no_yaml_is_none_of_our_business(folder):
    (folder / "README.md").write_text("---\na: [\n---\n\n# Mine\n")
    require_own_card(folder, [str(folder)])
    assert write_card(folder, [TABLE]).read_text().startswith("---\na: [\n---\n\n# Mine\n\n<!-- scores: begin -->")


BEGIN, END = b"<!-- scores: begin -->", b"<!-- scores: end -->"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (BEGIN + b"\nold\n\nprecious", "must have one beginning and, after it, one end"),
        (END + b"\nprecious", "must have one beginning and, after it, one end"),
        (END + b"\nprecious\n" + BEGIN, "must have one beginning and, after it, one end"),
        ((BEGIN + b"\nold\n" + END + b"\nprecious\n") * 2, "must have one beginning and, after it, one end"),
        (b"caf\xe9, precious", r"README.md is not UTF-8 text \(.* at byte 3\); save it as UTF-8"),
    ],
)
def test_a_card_that_would_lose_text(folder, content, message):
    """Without an end mark, all that followed the beginning was dropped; other encodings became question marks."""
    (folder / "README.md").write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        require_own_card(folder, [str(folder)])
    with pytest.raises(ConfigError, match=message):
        write_card(folder, [TABLE])
    assert (folder / "README.md").read_bytes() == content


def test_a_card_that_is_no_regular_file(folder):
    readme = folder / "README.md"
    readme.mkdir()
    with pytest.raises(ConfigError, match=r"README\.md is a folder"):
        require_own_card(folder, [str(folder)])
    readme.rmdir()
    (folder / "elsewhere.md").write_text("precious")
    readme.symlink_to("elsewhere.md")
    for refused in (lambda: require_own_card(folder, [str(folder)]), lambda: write_card(folder, [TABLE])):
        with pytest.raises(ConfigError, match=r"README.md is a link, .* put a copy of the file in its place"):
            refused()
    assert readme.is_symlink()
    assert (folder / "elsewhere.md").read_text() == "precious"


def test_the_home_folder(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    require_own_card(f"~/{folder.name}", [str(folder)])
    assert write_card(f"~/{folder.name}", [TABLE]) == folder / "README.md"
