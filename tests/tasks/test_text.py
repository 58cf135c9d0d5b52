"""Plain texts from files, folders and the Hub."""

import json
import logging
import os
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset

from inhibitor_transformers.tasks.text import load_pairs, load_texts, split_held_out

A, B, C = "this is the first text", "the second text is this", "and here comes a third one"


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


def load(*sources, **options):
    return load_texts(list(sources), **{"shuffle": False, **options})


def test_a_text_per_line(tmp_path):
    assert load(write(tmp_path / "a.txt", f"{A}\n{B}\ntoo short\n")) == [A, B]


def test_hard_wrapped_blocks_become_one_text_each(tmp_path):
    content = "this is a block\nthat goes on here\n\nand this is another\none of two lines\n"
    path = write(tmp_path / "a.txt", content)
    assert load(path) == ["this is a block that goes on here", "and this is another one of two lines"]


def test_long_lines_are_not_joined_across_blank_lines(tmp_path):
    long = " ".join(["word"] * 50)
    path = write(tmp_path / "a.txt", f"{long} one\n{long} two\n\n{long} three\n")
    assert load(path) == [f"{long} one", f"{long} two", f"{long} three"]


def test_wikitext_conventions(tmp_path):
    table = {
        "text": [
            "",
            " = Robert <unk> = \n",
            " = = A career in film and on stage = = \n",
            " Robert <unk> is a well @-@ known actor of 1 @,@ 000 films . \n",
        ]
    }
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    assert load(tmp_path / "a.parquet", unk_token="<?>") == ["Robert <?> is a well-known actor of 1,000 films ."]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", f'idx,sentence1,sentence2\n0,"{A}",{B}\n1,"{C}",{A}\n'),
        ("a.tsv", f"idx\tsentence1\tsentence2\n0\t{A}\t{B}\n1\t{C}\t{A}\n"),
        (
            "a.jsonl",
            "".join(json.dumps({"sentence1": a, "sentence2": b, "text": 3}) + "\n" for a, b in ((A, B), (C, A))),
        ),
        ("a.json", json.dumps([{"sentence1": A, "sentence2": B}, {"sentence1": C, "sentence2": None}])),
    ],
)
def test_all_text_columns_of_a_table_each_text_once(tmp_path, name, content):
    assert sorted(load(write(tmp_path / name, content))) == sorted([A, B, C])


def test_long_texts_are_kept_whole(tmp_path):
    long = "word " * 5_000 + "end"
    assert load(write(tmp_path / "a.txt", long)) == [long]


def test_folders_prefer_train_and_never_take_evaluation_splits(tmp_path):
    for name, text in {
        "glue/x/train.csv": A,
        "glue/x/validation.csv": "never one of the validation texts",
        "glue/x/extra.csv": "beside a train file not taken",
        "plain/one.txt": B,
        "plain/two-test.txt": "never one of the test texts",
        "reviews/test/neg/1.txt": "never one of the test texts",
        "reviews/train/neg/1.txt": C,
        "plain/latest.txt": "the latest text is no test",
        ".cache/hidden.txt": "hidden texts are not for training",
        "plain/README.md": "a readme file is no text here",
    }.items():
        write(tmp_path / name, f"text\n{text}\n" if name.endswith("csv") else text)
    assert load(tmp_path) == [A, "the latest text is no test", B, C]


def test_a_folder_leaves_out_tables_without_texts_and_says_so(tmp_path, caplog):
    write(tmp_path / "a.csv", "price\n3\n")
    write(tmp_path / "b.txt", A)
    with caplog.at_level(logging.WARNING):
        assert load(tmp_path) == [A]
    assert "a.csv: no text column among ['price']" in caplog.text
    write(tmp_path / "c.jsonl", "{broken\n")
    with pytest.raises(ValueError, match=r"c\.jsonl, line 1: not valid JSON"):
        load(tmp_path)


def test_order_and_number(tmp_path):
    texts = [f"text number {i} of the file" for i in range(100)]
    path = write(tmp_path / "a.txt", "\n".join(texts))
    assert load(path) == texts
    assert load(path, max_texts=3) == texts[:3]
    shuffled = load_texts(path, seed=1)
    assert sorted(shuffled) == sorted(texts)
    assert shuffled != texts
    assert load_texts(str(path), seed=1, max_texts=10) == shuffled[:10]
    assert load_texts(path, seed=2) != shuffled


def test_min_words(tmp_path):
    path = write(tmp_path / "a.txt", "one\none two\none two three\n")
    assert load(path, min_words=2) == ["one two", "one two three"]


@pytest.fixture
def hub(monkeypatch):
    calls = []

    def load_dataset(path, name=None, split=None):
        calls.append((path, name, split))
        if path == "nobody/nothing":
            raise ConnectionError("offline")
        return Dataset.from_dict({"idx": [0, 1], "text": [A, B]})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return calls


def test_hub_ids(hub):
    assert load("Salesforce/wikitext:wikitext-2-raw-v1") == [A, B]
    assert load("some/corpus") == [A, B]
    assert hub == [("Salesforce/wikitext", "wikitext-2-raw-v1", "train"), ("some/corpus", None, "train")]


def test_hub_failure(hub):
    message = "^'nobody/nothing' is no existing path, and loading it from the Hub as a dataset failed: offline$"
    with pytest.raises(ConnectionError, match=message):
        load("nobody/nothing")


@pytest.mark.parametrize(
    "source", ["nothing", "./some/where", "data/absent.txt", "data/absent.parquet", "a/b/c", "/abs/x"]
)
def test_neither_a_path_nor_a_hub_id(hub, source):
    with pytest.raises(FileNotFoundError, match="is neither an existing file or folder nor a Hub id"):
        load(source)
    assert hub == []


def test_errors(tmp_path):
    with pytest.raises(ValueError, match="max_texts must be at least 1"):
        load(tmp_path, max_texts=0)
    with pytest.raises(ValueError, match="no source of texts"):
        load_texts([])
    with pytest.raises(FileNotFoundError, match=r"no .txt, .parquet, .* file in this folder"):
        load(tmp_path)
    with pytest.raises(ValueError, match="no text of at least 5 words"):
        load(write(tmp_path / "a.txt", "too short\n"))
    with pytest.raises(ValueError, match=r"a.csv: no text column among \['x'\]; known names: text, sentence"):
        load(write(tmp_path / "a.csv", "x\n1\n"))
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe\x00binary")
    with pytest.raises(ValueError, match=r"b\.txt: not UTF-8 text"):
        load(tmp_path / "b.txt")
    (tmp_path / "a.txt").unlink()
    (tmp_path / "b.txt").unlink()
    with pytest.raises(ValueError, match="none of the 1 data files has a text column"):
        load(tmp_path)


def test_a_text_keeps_its_side_when_others_come_or_go():
    texts = [f"text {i}" for i in range(2_000)]
    train, held_out = split_held_out(texts, 0.1)
    assert train + held_out != texts
    assert sorted(train + held_out) == sorted(texts)
    assert 140 < len(held_out) < 260
    fewer = split_held_out(texts[::-3], 0.1)
    assert set(fewer[0]) <= set(train)
    assert set(fewer[1]) <= set(held_out)
    assert set(held_out) < set(split_held_out(texts, 0.3)[1])


def test_a_pair_is_held_out_with_either_of_its_texts():
    texts = [f"text {i}" for i in range(2_000)]
    held_out = set(split_held_out(texts)[1])
    pairs = list(zip(texts, texts[1:] + texts[:1], strict=True))
    kept = split_held_out(pairs)[0]
    assert kept == [pair for pair in pairs if held_out.isdisjoint(pair)]


class TestPairs:
    def test_two_texts_of_one_row(self, tmp_path):
        rows = {"idx": [0, 1, 2, 3], "premise": [A, A, None, B], "hypothesis": [B, B, C, "too short"]}
        pq.write_table(pa.table(rows), tmp_path / "a.parquet")
        assert load_pairs(tmp_path / "a.parquet") == [(A, B)]

    def test_cleaned_as_texts_are(self, tmp_path):
        path = write(tmp_path / "a.csv", f"question,passage\n{A} <unk>,{B} @-@ long\n")
        assert load_pairs(path, unk_token="<?>") == [(f"{A} <?>", f"{B.removesuffix('this')}this-long")]

    def test_sources_without_any_have_none(self, tmp_path):
        write(tmp_path / "a.txt", f"{A}\n{B}\n")
        write(tmp_path / "b.csv", f"text,sentence2\n{A},{B}\n")
        assert load_pairs(tmp_path) == []

    def test_so_many_of_them_in_the_order_of_the_seed(self, tmp_path):
        rows = "".join(f"{A} {i},{B} {i}\n" for i in range(100))
        path = write(tmp_path / "a.csv", f"text1,text2\n{rows}")
        shuffled = load_pairs(path, seed=1)
        assert load_pairs(path, seed=1, max_texts=10) == shuffled[:10]
        assert load_pairs(path, seed=2) != shuffled
        assert len(shuffled) == 100
        assert all(a.removeprefix(A) == b.removeprefix(B) for a, b in shuffled)
        with pytest.raises(ValueError, match="max_texts must be at least 1"):
            load_pairs(path, max_texts=0)

    def test_real_tasks(self, shared_data: Path):
        pairs = load_pairs(shared_data / "glue")
        assert len(pairs) > 10_000
        assert len(set(pairs)) == len(pairs)
        for task in ("mrpc", "stsb"):
            train = pq.read_table(shared_data / "glue" / task / "train.parquet").to_pydict()
            rows = set(zip(train["sentence1"], train["sentence2"], strict=True))
            assert len(rows & set(pairs)) > 0.7 * len(rows)


def test_the_split_is_the_same_on_every_machine():
    assert split_held_out([str(i) for i in range(30)], 0.1)[1] == ["5", "22"]


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, float("nan")])
def test_fractions_outside(fraction):
    with pytest.raises(ValueError, match="fraction must lie between 0 and 1"):
        split_held_out([A, B], fraction)


def test_too_few_to_split():
    with pytest.raises(ValueError, match=r"1 text\(s\) are too few"):
        split_held_out([A])


def test_real_wikitext(shared_data: Path):
    texts = load_texts(shared_data / "wikitext-2", unk_token="[UNK]")
    assert len(texts) > 15_000
    assert len(set(texts)) == len(texts)
    assert any("[UNK]" in text for text in texts)
    assert not any("<unk>" in text or text.startswith("= ") or " @-@ " in text for text in texts)
    assert max(len(text.split()) for text in texts) > 400
    validation = pq.read_table(shared_data / "wikitext-2" / "validation.parquet")["text"].to_pylist()
    assert not {text.strip() for text in validation} & set(texts)


def test_real_folder_of_many_tasks(shared_data: Path):
    assert len(load_texts(shared_data / "glue")) > 60_000


def test_a_column_of_texts_with_something_else_in_it(tmp_path):
    """The column was left out, or all of the file."""
    file = tmp_path / "a.jsonl"
    file.write_text('{"text": "one two three four five"}\n{"text": null}\n{"text": 7}\n')
    with pytest.raises(ValueError, match=r"a\.jsonl, row 3, column 'text': expected a text, got 7"):
        load_texts(file)


def test_half_a_character_is_named_with_its_row(tmp_path):
    """tokenizers raised a TypeError of it, long after it was read."""
    file = tmp_path / "a.jsonl"
    file.write_text('{"text": "one two three four five"}\n{"text": "one two three four five \\ud83d"}\n')
    with pytest.raises(ValueError, match=r"a\.jsonl, row 2, column 'text': half a character, '\\ud83d'"):
        load_texts(file)


def test_a_pipe_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(ValueError, match=r"pipe\.txt is no regular file"):
        load_texts(tmp_path / "pipe.txt")


@pytest.mark.parametrize("content", [A.encode("utf-16"), A.encode("utf-16-le"), bytes(100)])
def test_a_text_file_that_is_none_in_utf_8(content, tmp_path):
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(ValueError, match=r"a.txt: not UTF-8 text \(it holds NUL bytes"):
        load(tmp_path / "a.txt")
