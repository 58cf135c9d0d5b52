"""Reading data files: what was written comes back, and what cannot be read is named."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features, Value

from inhibitor_transformers.tasks.files import read_table


def write(path, content):
    path.write_bytes(content.encode("utf-8"))
    return path


def test_parquet(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["é", "b"], "label": [1, 0]}), path)
    assert read_table(path) == {"text": ["é", "b"], "label": [1, 0]}


def test_parquet_of_datasets_gives_class_names_and_keeps_hidden_labels(tmp_path):
    features = Features({"text": Value("string"), "label": ClassLabel(names=["no", "yes"])})
    Dataset.from_dict({"text": ["a", "b", "c"], "label": [1, 0, -1]}, features=features).to_parquet(
        tmp_path / "a.parquet"
    )
    assert read_table(tmp_path / "a.parquet")["label"] == ["yes", "no", -1]


def test_a_folder_that_looks_like_a_partition_adds_no_column(tmp_path):
    folder = tmp_path / "split=train"
    folder.mkdir()
    pq.write_table(pa.table({"text": ["a"]}), folder / "a.parquet")
    assert list(read_table(folder / "a.parquet")) == ["text"]


def test_csv_with_quotes_commas_and_line_breaks(tmp_path):
    path = write(tmp_path / "a.csv", 'text,label\r\n"He said ""no"", twice",1\r\n"two\nlines",0\r\n\r\nplain,1\r\n')
    assert read_table(path) == {"text": ['He said "no", twice', "two\nlines", "plain"], "label": ["1", "0", "1"]}


def test_csv_with_a_field_longer_than_the_csv_modules_default(tmp_path):
    text = "word " * 40_000
    assert read_table(write(tmp_path / "a.csv", f"text,label\n{text},1\n"))["text"] == [text]


def test_tsv_takes_quotes_as_characters(tmp_path):
    rows = 'sentence\tlabel\n"unbalanced\t0\n"quoted"\t1\nsaid ""twice""\t0\n'
    table = read_table(write(tmp_path / "a.tsv", rows))
    assert table == {"sentence": ['"unbalanced', '"quoted"', 'said ""twice""'], "label": ["0", "1", "0"]}


def test_tsv_rows_end_at_line_feeds_alone(tmp_path):
    rows = "sentence\tlabel\r\nlone \r return, \u2028 and \x85 stay\t0\r\nb\t1\r\n"
    assert read_table(write(tmp_path / "a.tsv", rows))["sentence"] == ["lone \r return, \u2028 and \x85 stay", "b"]


def test_byte_order_mark_is_no_part_of_the_first_name(tmp_path):
    assert list(read_table(write(tmp_path / "a.tsv", "\ufeffsentence\tlabel\na\t1\n"))) == ["sentence", "label"]
    assert list(read_table(write(tmp_path / "a.csv", "\ufeffsentence,label\na,1\n"))) == ["sentence", "label"]


def test_json_lines_with_a_field_left_out(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"text": "a", "label": 1}\n\n{"text": "b", "extra": 2}\n')
    assert read_table(path) == {"text": ["a", "b"], "label": [1, None], "extra": [None, 2]}


@pytest.mark.parametrize("lines", [False, True])
def test_json_as_a_list_or_as_lines(tmp_path, lines):
    rows = [{"text": "a", "label": 0.5}, {"text": "b", "label": 1}]
    content = "\n".join(map(json.dumps, rows)) if lines else json.dumps(rows, indent=1)
    assert read_table(write(tmp_path / "a.json", content)) == {"text": ["a", "b"], "label": [0.5, 1]}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "", "a.csv: the file is empty"),
        ("a.tsv", "", "a.tsv: the file is empty"),
        ("a.csv", "text,text\na,b\n", "two columns have the same name"),
        ("a.csv", "text,label\na,1\nb\nc,1,2\n", r"2 line\(s\) do not have the header's 2 fields: line 3, 4;"),
        ("a.tsv", "text\tlabel\na\t1\nb\n", r"1 line\(s\) do not have the header's 2 fields: line 3;"),
        ("a.csv", 'text,label\n"never closed,1\nb,0\n', r"a.csv, line 3: not valid CSV"),
        ("a.jsonl", '{"text": "a"}\n{"text": \n', "a.jsonl, line 2: not valid JSON"),
        ("a.jsonl", '{"text": "a"}\n["b"]\n', "a.jsonl, row 2: expected an object with named fields, got list"),
        (
            "a.jsonl",
            '{"text": "a", "label": 1}\n{"text": "b", "text": "c"}\n',
            "line 2: an object has the field 'text' twice",
        ),
        ("a.json", '[{"text": "a", "label": 1, "label": 2}]', "a.json: an object has the field 'label' twice"),
        ("a.json", '[{"text": "a"},\n 3]', "a.json, row 2: expected an object with named fields, got int"),
        ("a.json", '[{"text": "a"},\n', "a.json, line 2: not valid JSON"),
        (
            "a.jsonl",
            '{"text": "ok"}\n{"text": "cut \\ud83d off"}\n',
            r"a.jsonl, row 2, column 'text': half a character, '\\ud83d'",
        ),
        (
            "a.json",
            '[{"text": "ok", "label": "\\udc00"}]',
            r"a.json, row 1, column 'label': half a character, '\\udc00'",
        ),
        ("a.parquet", "PAR1 not really", "not a readable Parquet file"),
        ("a.xlsx", "x", "cannot read .xlsx; use .parquet, .csv"),
        ("a", "x", "cannot read a file without a suffix"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, name, content, message):
    with pytest.raises(ValueError, match=message):
        read_table(write(tmp_path / name, content))


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "json"])
def test_not_utf8(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(b'{"text": "caf\xe9"}\n')
    with pytest.raises(ValueError, match=r"not UTF-8 text .* at byte 13"):
        read_table(path)


def test_parquet_with_two_columns_of_one_name(tmp_path):
    pq.write_table(pa.table([["a"], ["b"], [1]], names=["text", "text", "label"]), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"two columns have the same name in the header \['text', 'text', 'label'\]"):
        read_table(tmp_path / "a.parquet")


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_table(tmp_path / "a.csv")


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".json", ".jsonl"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_is_refused_with_or_without_its_mark(suffix, encoding, tmp_path):
    path = tmp_path / f"a{suffix}"
    path.write_bytes("text,label\na,1\n".encode(encoding))
    with pytest.raises(ValueError, match=rf"a{suffix}: not UTF-8 text \(it holds NUL bytes"):
        read_table(path)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".json", ".jsonl"])
def test_compressed_and_binary_files(suffix, tmp_path):
    path = tmp_path / f"a{suffix}"
    for content in (gzip.compress(b"text,label\na,1\n"), bytes(range(255, 0, -1)) * 9, bytes(100)):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"a{suffix}: not UTF-8 text [^\n]+$"):
            read_table(path)


@pytest.mark.parametrize(("suffix", "where"), [(".json", "a.json: "), (".jsonl", "a.jsonl, line 1: ")])
@pytest.mark.parametrize(("content", "reason"), [("[" * 100_000, "nested too deeply"), ("9" * 5000, "limit")])
def test_json_that_python_does_not_read(suffix, where, content, reason, tmp_path):
    path = write(tmp_path / f"a{suffix}", f'[{{"text": {content}}}]' if suffix == ".json" else content)
    with pytest.raises(ValueError, match=rf"{where}not valid JSON \([^\n]*{reason}"):
        read_table(path)


def test_damaged_and_encrypted_parquet(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["some text"] * 10}), path)
    content = path.read_bytes()
    for damaged in (content[:-20], b"", content[:4] + b"\xff" * 60 + content[64:], content[:-4] + b"PARE"):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"^[^\n]*a.parquet: not a readable Parquet file [^\n]+$"):
            read_table(path)
