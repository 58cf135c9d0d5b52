"""Tables in a model card."""

from __future__ import annotations

import pytest
from huggingface_hub import ModelCard

from inhibitor_transformers.measure.report import Table, require_own_card, write_card

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
