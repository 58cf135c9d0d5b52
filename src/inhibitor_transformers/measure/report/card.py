"""Tables in a model card: README.md beside the weights, as the Hub shows it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import ModelCard, ModelCardData

from ...common.atomic import atomic_write
from .markdown import markdown_table
from .tables import Table

_METADATA = ModelCardData(library_name="transformers", tags=["inhibitor-attention"])
_INTRODUCTION = (
    "An encoder with inhibitor attention (Manhattan distances, additions and ReLU; no softmax), made with "
    "inhibitor-transformers. Import `inhibitor_transformers` before you load it with the Auto classes of Transformers."
)


def require_own_card(folder: str | Path, models: Sequence[str]) -> None:
    """Raise ValueError unless `folder` holds one of the models, given as folders or Hub ids."""
    folder = Path(folder)
    if folder.resolve() not in [Path(model).resolve() for model in models]:
        raise ValueError(f"{folder} is none of the models ({', '.join(models)}), so its card is another's")
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder} holds no model (no config.json), so a card has nothing to describe")


def write_card(folder: str | Path, tables: Sequence[Table], section: str = "scores") -> Path:
    """Put the tables into the card in `folder`, in place of those of the same section; all else in it stays."""
    folder = Path(folder)
    opening, closing = (f"<!-- {section}: {place} -->" for place in ("begin", "end"))
    written = "\n\n".join([opening, *(markdown_table(table) for table in tables if table.rows), closing])
    file = folder / "README.md"
    if file.exists():
        card = ModelCard.load(file)
        before, begin, rest = card.text.partition(opening)
        text = before.rstrip() + "\n\n" + written + (rest.partition(closing)[2] if begin else "\n")
    else:
        card = ModelCard(f"---\n{_METADATA.to_yaml()}\n---\n")
        text = f"# {folder.resolve().name}\n\n{_INTRODUCTION}\n\n{written}\n"
    return atomic_write(file, f"---\n{card.data.to_yaml()}\n---\n\n{text.lstrip()}")
