"""What the circuits need besides Python packages: said before any work."""

from __future__ import annotations

from importlib.util import find_spec


def require_tools(library: str) -> None:
    """Raise ValueError, saying what to install, where amaranth, yosys or the cell library is absent."""
    if find_spec("amaranth") is None:
        raise ValueError("circuits need amaranth: pip install 'inhibitor-transformers[hardware]'")
    from .gates.cells import CellLibrary
    from .gates.synthesize import find_yosys

    find_yosys()
    CellLibrary.load(library)
