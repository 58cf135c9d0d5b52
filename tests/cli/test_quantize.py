"""`inhibit quantize`."""

from __future__ import annotations

import pytest
from transformers import AutoModel, AutoModelForSequenceClassification

from inhibitor_transformers import InhibiDistilBertForSequenceClassification, InhibiDistilBertModel
from inhibitor_transformers.tasks import text as text_sources
from tests.distill.tiny import bert, saved, sentences, text_file


@pytest.fixture
def student(tmp_path) -> str:
    return saved(InhibiDistilBertModel.from_teacher(bert()), tmp_path / "student")


@pytest.fixture
def text(tmp_path) -> str:
    return text_file(tmp_path, sentences(60))


def test_a_folder_that_loads(inhibit, student, text, tmp_path):
    done = inhibit("quantize", student, tmp_path / "out", "--text", text, "--embeddings")
    assert done.status == 0, done.err
    assert "quantized" in done.out
    assert "least" in done.out
    model = AutoModel.from_pretrained(tmp_path / "out")
    assert model.config.quantization_config.embeddings
    assert {p.name for p in (tmp_path / "out").iterdir()} >= {"model.safetensors", "config.json", "tokenizer.json"}


@pytest.mark.parametrize("flags", [(), ("--text", "this-machine")])
def test_text_of_this_machine(flags, inhibit, student, tmp_path, monkeypatch):
    """It was taken for a file, so that the command failed without --text."""
    monkeypatch.setattr(text_sources, "english_on_this_machine", lambda: sentences(60))
    done = inhibit("quantize", student, tmp_path / "out", *flags)
    assert done.status == 0, done.err


def test_its_progress(phases, student, text, tmp_path):
    found = phases("quantize", student, tmp_path / "out", "--text", text)
    assert {"tokenizing", "watching activations", "quantizing linear layers", "quantizing attention"} <= found
    assert "embedding" in found


@pytest.mark.parametrize("columns", ["20", "40", "80"])
def test_the_costs_on_a_narrow_terminal(columns, inhibit, student, text, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    table = inhibit("quantize", student, tmp_path / "out", "--text", text).out.split("quantized model saved")[0]
    assert max(map(len, table.splitlines())) <= int(columns)
    assert {"float", "MB", "mean", "least"} <= set(table.split())


def test_the_head_stays(inhibit, text, tmp_path):
    source = saved(InhibiDistilBertForSequenceClassification.from_teacher(bert(), num_labels=3), tmp_path / "student")
    done = inhibit("quantize", source, tmp_path / "out", "--text", text, "--bits", "16", "--no-linears")
    assert done.status == 0, done.err
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    assert model.config.num_labels == 3
    assert (model.config.quantization_config.bits, model.config.quantization_config.linears) == (16, False)


def test_nothing_is_overwritten_unasked(inhibit, student, text, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    for flags in ((), ("--overwrite",)):
        done = inhibit("quantize", student, tmp_path / "out", "--text", text, *flags)
        assert (done.status, (tmp_path / "out" / "mine.txt").exists()) == (2, True)
        assert "choose another folder" in done.err
    (tmp_path / "out" / "run.yaml").write_text("inhibit: quantize")
    assert "add --overwrite" in inhibit("quantize", student, tmp_path / "out", "--text", text).err
    assert inhibit("quantize", student, tmp_path / "out", "--text", text, "--overwrite").status == 0
    assert not (tmp_path / "out" / "mine.txt").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--bits", "7"], "--bits must be one of [3, 4, 5, 6, 8, 16], got 7"),
        (["--text", "nowhere.txt"], "nowhere.txt"),
    ],
)
def test_what_is_refused_leaves_nothing(inhibit, student, tmp_path, arguments, said):
    done = inhibit("quantize", student, tmp_path / "out", *arguments)
    assert done.status == 2
    assert said in done.err
    assert not (tmp_path / "out").exists()


def test_a_softmax_model_is_refused(inhibit, text, tmp_path):
    done = inhibit("quantize", saved(bert(), tmp_path / "bert"), tmp_path / "out", "--text", text)
    assert done.status == 2
    assert "BertModel has no inhibitor attention" in done.err
    assert not list(tmp_path.glob("out*"))
