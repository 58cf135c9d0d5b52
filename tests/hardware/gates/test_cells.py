from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from inhibitor_transformers.hardware.gates.cells import PACKAGED, CellLibrary, Packaged, Table
from tests.hardware.gates.designs import LIBRARIES, needs_library


@pytest.mark.parametrize("name", LIBRARIES)
def test_gates_adders_and_flip_flops_are_found(name: str) -> None:
    library = CellLibrary.load(name)
    assert library.voltage == {"osu018": 1.8, "osu050": 5}[name]
    assert [library.adders[n][0].name for n in (2, 3)] == ["HAX1", "FAX1"]
    assert library.adders[3][1:] == ("YS", "YC")
    assert library.flip_flop.name == "DFFPOSX1"
    assert library.flip_flop.flip_flop == ("CLK", "D", "Q")
    assert {"LATCH", "DFFNEGX1", "DFFSR", "TBUFX1", "PADINOUT"}.isdisjoint(library.cells)
    assert {"NAND2X1", "AOI22X1", "MUX2X1", "XOR2X1"} <= library.cells.keys()


@needs_library
def test_numbers_are_those_of_the_file() -> None:
    cell = CellLibrary.load("osu018").cells["AND2X1"]
    assert (cell.area, cell.leakage, cell.capacitance["A"]) == (32, 0.0746794, 0.0129077)
    (output,) = cell.outputs
    arc = next(arc for arc in output.arcs if arc.pin == "A")
    rise, fall = (table(np.array([0.0125, 0.15]), np.array([0.18, 1.2])) for table in arc.delay)
    assert rise == pytest.approx([0.085985, 0.325543])
    assert fall == pytest.approx([0.120622, 0.506596])
    power = next(power for power in output.powers if power.pin == "B")
    assert power.energy[1](np.array([0.005]), np.array([0.06])) == pytest.approx([0.062565])


def test_tables_are_linear_between_points_and_beyond() -> None:
    table = Table(np.array([1.0, 2.0]), np.array([0.0, 1.0, 3.0]), np.array([[0.0, 1.0, 3.0], [10.0, 11.0, 13.0]]))
    loads, slews = np.array([1.0, 1.5, 3.0, 0.0]), np.array([2.0, -1.0, 4.0, 0.5])
    assert table(loads, slews) == pytest.approx(10 * (loads - 1) + slews)


def test_an_absent_library_says_which_package_it_comes_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PACKAGED, "osu018", Packaged("absent.lib", "qflow-tech-osu018", 0.0))
    with pytest.raises(ValueError, match="qflow-tech-osu018"):
        CellLibrary.load("osu018")
    with pytest.raises(ValueError, match="osu018, osu050"):
        CellLibrary.load(tmp_path / "mine.lib")


def test_other_units_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "slow.lib"
    file.write_text('library (slow) { time_unit : "1ps"; capacitive_load_unit (1,pf); }')
    with pytest.raises(ValueError, match="1ps"):
        CellLibrary.load(file)
