"""Tables in a model card: README.md beside the weights, as the Hub shows it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import ModelCard, ModelCardData

from ..whole_file import write_whole
from .markdown import markdown_table
from .tables import Table

_BEGIN, _END = "<!-- scores: begin -->", "<!-- scores: end -->"
_METADATA = ModelCardData(library_name="transformers", tags=["inhibitor-attention"])
_INTRODUCTION = (
    "An encoder with inhibitor attention (Manhattan distances, additions and ReLU; no softmax), made with "
    "inhibitor-transformers. Import `inhibitor_transformers` before you load it with the Auto classes of Transformers."
)


def write_card(folder: Path, tables: Sequence[Table]) -> Path:
    """Put the tables into the card in `folder`; what else an existing card says stays.

    Raises ValueError if the folder holds no model.
    """
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder} holds no model (no config.json), so a card has nothing to describe")
    section = "\n\n".join([_BEGIN, *(markdown_table(table) for table in tables if table.rows), _END])
    file = folder / "README.md"
    if file.exists():
        card = ModelCard.load(file)
        before, begin, rest = card.text.partition(_BEGIN)
        text = before.rstrip() + "\n\n" + section + (rest.partition(_END)[2] if begin else "\n")
    else:
        card = ModelCard(f"---\n{_METADATA.to_yaml()}\n---\n")
        text = f"# {folder.resolve().name}\n\n{_INTRODUCTION}\n\n{section}\n"
    return write_whole(file, f"---\n{card.data.to_yaml()}\n---\n\n{text.lstrip()}")
