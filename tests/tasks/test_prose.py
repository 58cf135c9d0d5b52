"""English from the machine itself: enough of it, prose, and the same each time."""

import itertools
import sys

import pytest

from inhibitor_transformers.tasks import prose
from inhibitor_transformers.tasks.prose import english_on_this_machine


@pytest.fixture(scope="module")
def passages():
    return english_on_this_machine()


def test_enough_distinct_passages_of_all_lengths(passages):
    assert len(passages) >= 5_000
    assert len(set(passages)) == len(passages)
    words = sorted(len(passage.split()) for passage in passages)
    assert words[0] >= 8
    assert sum(count >= 64 for count in words) > 300
    assert sum(count >= 128 for count in words) > 100
    assert sum(count < 16 for count in words) > 1_000


def test_passages_are_prose(passages):
    assert not any("\n" in passage or passage.startswith(">>>") for passage in passages)
    assert all(passage[0].isupper() for passage in passages)
    letters = sum(character.isalpha() for passage in passages for character in passage)
    assert letters > 0.75 * sum(map(len, passages))


@pytest.fixture
def few_modules(monkeypatch):
    """The first modules of the standard library alone: seconds saved."""
    paths = list(itertools.islice(prose._standard_library(), 20))
    monkeypatch.setattr(prose, "_standard_library", lambda: iter(paths))


def test_order_follows_the_seed(few_modules):
    first = english_on_this_machine()
    assert english_on_this_machine(max_texts=50) == first[:50]
    assert english_on_this_machine(max_texts=50, seed=1) != first[:50]


def test_a_python_without_pydocs_data(few_modules, monkeypatch):
    complete = english_on_this_machine()
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    assert 100 < len(english_on_this_machine()) < len(complete)


def test_bad_number():
    with pytest.raises(ValueError, match="max_texts must be at least 1"):
        english_on_this_machine(max_texts=0)


DOCUMENT = """
A heading
=========

The first *paragraph* is about ``things`` that are in the :class:`~a.b.Thing` and
in [a link](https://example.org) of the <b>document</b>.

    >>> code(that) == is_not
    The code is followed by a line that reads as prose does.

* The first item of the list is one that has enough words to stay.
* Too short.
* The second item of the list is one of the kind that stays.

```python
The text within a fence is not to be taken for prose, whatever it is.
```

x = 1 + y[2] * foo(bar) / baz_qux_quux % 17 == 0x1F or z != w << 3

| The cell | of a table | is not | one of the | texts that | are prose. |
"""


def test_markup_goes_and_code_goes():
    assert list(prose._prose_paragraphs(DOCUMENT)) == [
        "The first paragraph is about things that are in the a.b.Thing and in a link of the document.",
        "The first item of the list is one that has enough words to stay.",
        "The second item of the list is one of the kind that stays.",
    ]


def test_docstrings_are_read_without_importing(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(
        '"""Of the module."""\nraise SystemExit\nclass A:\n    """Of the class."""\n    def f(self):\n        "Of f."\n'
    )
    assert prose._module_documentation(path) == "Of the module.\n\nOf the class.\n\nOf f."
    path.write_text("def broken(:\n")
    assert prose._module_documentation(path) == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The function returns a list of all the names in the module.", True),
        ('It is kept ("as it is"), isn\'t it, by the well-known reader of files?', True),
        ("The list is too short here.", False),
        ("the function returns a list of all the names in the module.", False),
        ("The function returns a list of all the names in the module", False),
        ("Apache License Version Python Software Foundation Copyright Holders Warranty.", False),
        ("The a_b is x+1 of the c_d() and e[2] as f.g is h/i.", False),
    ],
)
def test_what_reads_as_prose(text, expected):
    assert prose._is_prose(text) is expected
