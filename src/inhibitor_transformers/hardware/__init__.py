"""Attention heads as circuits: generated from Python, mapped to standard cells, measured in area and energy."""

from __future__ import annotations

from importlib.util import find_spec


def require_tools(cells: str) -> None:
    """Raise ValueError, saying what to install, where amaranth, yosys or the cell library is absent."""
    if find_spec("amaranth") is None:
        raise ValueError("circuits need amaranth: pip install 'inhibitor-transformers[hardware]'")
    from .gates.cells import CellLibrary
    from .gates.synthesize import find_yosys

    find_yosys()
    CellLibrary.load(cells)
