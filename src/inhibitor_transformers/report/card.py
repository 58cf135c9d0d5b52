"""Tables in a model card: README.md beside the weights, as the Hub shows it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import ModelCardData

from ..common.atomic import atomic_write
from ..common.errors import ConfigError
from ..common.paths import expand_user, require_writable, resolve_links
from .markdown import markdown_table
from .tables import Table

SECTION = "scores"

_METADATA = ModelCardData(library_name="transformers", tags=["inhibitor-attention"])
_INTRODUCTION = (
    "An encoder with inhibitor attention (Manhattan distances, additions and ReLU; no softmax), made with "
    "inhibitor-transformers. Import `inhibitor_transformers` before you load it with the Auto classes of Transformers."
)


def require_own_card(folder: str | Path, models: Sequence[str], section: str = SECTION) -> None:
    """Raise ValueError unless `write_card` can write into the card of `folder`, which is one of the models.

    Args:
        folder: a model's folder; its card need not be there.
        models: folders or Hub ids.
        section: as for `write_card`.
    """
    folder = expand_user(folder)
    if resolve_links(folder) not in [resolve_links(model) for model in models]:
        raise ValueError(f"{folder} is none of the models ({', '.join(models)}), so its card is another's")
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder} holds no model (no config.json), so a card has nothing to describe")
    _around(_read(folder / "README.md"), section, folder / "README.md")


def write_card(folder: str | Path, tables: Sequence[Table], section: str = SECTION) -> Path:
    """Put the tables into the card in `folder`, in place of those of the same section; all else stays, to the byte.

    Raises ConfigError for a card that is no regular file or not UTF-8, or whose section has no beginning or no end.
    """
    folder = expand_user(folder)
    file = folder / "README.md"
    text = _read(file)
    if not text.strip():
        text = f"---\n{_METADATA.to_yaml()}\n---\n\n# {folder.resolve().name}\n\n{_INTRODUCTION}\n"
    before, after = _around(text, section, file)
    begin, end = _marks(section)
    written = "\n\n".join([begin, *(markdown_table(table) for table in tables if table.rows), end])
    if "\r\n" in text:
        written = written.replace("\n", "\r\n")
    return atomic_write(file, before + written + after)


def _read(file: Path) -> str:
    """The card as it stands, with its own line ends; "" where there is none."""
    if file.is_symlink():
        raise ConfigError(f"{file} is a link, which writing would replace; put a copy of the file in its place")
    require_writable(file)
    try:
        return file.read_bytes().decode("utf-8")
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError as error:
        where = f"{error.reason} at byte {error.start}"
        raise ConfigError(f"{file} is not UTF-8 text ({where}); save it as UTF-8") from None


def _around(text: str, section: str, file: Path) -> tuple[str, str]:
    """What stands before and after the section; a new one goes to the end."""
    begin, end = _marks(section)
    if begin not in text and end not in text:
        line_end = "\r\n" if "\r\n" in text else "\n"
        gap = line_end * (0 if text.endswith(line_end * 2) else 1 if text.endswith("\n") else 2)
        return text + gap, line_end
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    if text.count(begin) != 1 or text.count(end) != 1 or end not in rest:
        raise ConfigError(
            f"{file}: the section between {begin} and {end} must have one beginning and, after it, one end; mend these "
            "lines, or remove them"
        )
    return before, after


def _marks(section: str) -> tuple[str, str]:
    return f"<!-- {section}: begin -->", f"<!-- {section}: end -->"
