"""Toggles with glitches: against a simulator with an event queue, and against Icarus Verilog."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from inhibitor_transformers.hardware.gates.bits import unpack
from inhibitor_transformers.hardware.gates.cells import CellLibrary
from inhibitor_transformers.hardware.gates.netlist import Netlist
from inhibitor_transformers.hardware.gates.simulate import Activity, simulate
from inhibitor_transformers.hardware.gates.timing import Timing, analyze
from tests.hardware.gates.designs import (
    dot_stimulus,
    map_accumulator,
    map_dot,
    needs_library,
    needs_yosys,
    random_netlist,
)
from tests.hardware.gates.event_queue import EventQueue

CYCLES = 70  # more than a word
needs_iverilog = pytest.mark.skipif(not shutil.which("iverilog"), reason="needs Debian's package iverilog")


def source_nets(netlist: Netlist) -> list[int]:
    ports = [port.nets for port in netlist.inputs.values()]
    return np.concatenate([*ports, netlist.flip_flops.output]).tolist()


def in_steps(netlist: Netlist, timing: Timing, step: float) -> tuple[list[list[np.ndarray]], np.ndarray]:
    delays = [[np.rint(delay / step).astype(int) for delay in group] for group in timing.delays]
    moves = np.zeros((netlist.net_count, 2), dtype=int)
    moves[source_nets(netlist)] = np.rint(timing.arrival[source_nets(netlist)] / step)
    return delays, moves


def queue_toggles(netlist: Netlist, values: np.ndarray, cycles: int, timing: Timing, step: float) -> np.ndarray:
    delays, moves = in_steps(netlist, timing, step)
    queue, bits = EventQueue(netlist, delays, moves), unpack(values, cycles)
    total = np.zeros(netlist.net_count, dtype=np.int64)
    for cycle in range(1, cycles):
        after = {net: int(bits[net, cycle]) for net in source_nets(netlist)}
        total += queue.toggles(bits[:, cycle - 1], after)
        assert np.array_equal(queue.values, bits[:, cycle])
    return total


def simulated(
    netlist: Netlist, stimulus: dict[str, np.ndarray], **options: float
) -> tuple[np.ndarray, Timing, Activity]:
    values, timing = netlist.settle(stimulus), analyze(netlist)
    return values, timing, simulate(netlist, values, len(next(iter(stimulus.values()))), timing, **options)


@needs_library
@pytest.mark.parametrize("step", [0.01, 0.03])
@pytest.mark.parametrize("seed", range(6))
def test_random_netlists_toggle_as_with_an_event_queue(seed: int, step: float) -> None:
    netlist = random_netlist(CellLibrary.load("osu018"), 120, 8, seed)
    stimulus = {"x": np.random.default_rng(seed).integers(0, 256, CYCLES)}
    values, timing, activity = simulated(netlist, stimulus, step=step)
    expected = queue_toggles(netlist, values, CYCLES, timing, step)
    assert np.array_equal(activity.toggles, expected)
    assert activity.glitches > 0


@needs_library
@needs_yosys
def test_a_dot_product_toggles_as_with_an_event_queue() -> None:
    netlist = map_dot(4, 4, CellLibrary.load("osu018"))
    values, timing, activity = simulated(netlist, dot_stimulus(4, 4, CYCLES)[0])
    assert np.array_equal(activity.toggles, queue_toggles(netlist, values, CYCLES, timing, 0.01))


@needs_library
@needs_yosys
def test_registers_start_the_logic_behind_them() -> None:
    netlist = map_accumulator(CellLibrary.load("osu018"))
    rng = np.random.default_rng(0)
    stimulus = {"x": rng.integers(0, 256, CYCLES), "enable": rng.integers(0, 2, CYCLES), "clear": np.zeros(CYCLES, int)}
    values, timing, activity = simulated(netlist, stimulus)
    assert np.array_equal(activity.toggles, queue_toggles(netlist, values, CYCLES, timing, 0.01))
    assert activity.toggles[netlist.flip_flops.output].sum() > 0


@needs_library
def test_cycles_beyond_a_word_and_a_span_count_as_much_as_within_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inhibitor_transformers.hardware.gates.simulate.SPAN", 128)
    netlist = random_netlist(CellLibrary.load("osu018"), 60, 8, 0)
    x = np.random.default_rng(0).integers(0, 256, 200)
    whole = simulated(netlist, {"x": x})[2]
    parts = [simulated(netlist, {"x": x[at : at + 41]})[2] for at in range(0, 199, 40)]
    assert np.array_equal(whole.toggles, sum(part.toggles for part in parts))
    assert whole.cycles == sum(part.cycles for part in parts) == 199


@needs_library
def test_without_changes_nothing_toggles() -> None:
    netlist = random_netlist(CellLibrary.load("osu018"), 60, 8, 0)
    activity = simulated(netlist, {"x": np.full(5, 77)})[2]
    assert not activity.toggles.any()
    assert activity.glitches == 0


@needs_library
def test_less_inertia_drops_fewer_pulses() -> None:
    netlist = random_netlist(CellLibrary.load("osu018"), 120, 8, 1)
    stimulus = {"x": np.random.default_rng(0).integers(0, 256, CYCLES)}
    none, half, full = (simulated(netlist, stimulus, inertia=share)[2].toggles.sum() for share in (0, 0.5, 1))
    assert none > half > full


@needs_library
def test_one_cycle_is_refused() -> None:
    netlist = random_netlist(CellLibrary.load("osu018"), 5, 4, 0)
    with pytest.raises(ValueError, match="at least two"):
        simulated(netlist, {"x": np.array([1])})


def behavioral(netlist: Netlist, delays: list[list[np.ndarray]], moves: np.ndarray, bits: np.ndarray) -> str:
    """A test bench: every output an `assign` with its delays, pins that are later by a transport delay."""
    names = [f"n{net}" for net in range(netlist.net_count)]
    lines = ["`timescale 1ps/1ps", "module bench;"]
    for group, of_group in zip(netlist.groups, delays, strict=True):
        for k, gate in enumerate(group.gates.tolist()):
            for j, (output, nets, delay) in enumerate(zip(group.cell.outputs, group.outputs, of_group, strict=True)):
                table = group.cell.tables[j]
                later = delay[:, :, k].sum(axis=1) // 2
                pins = [f"p{gate}_{j}_{i}" for i in range(len(group.inputs))]
                for pin, source, wait in zip(pins, group.inputs[:, k], later - later.min(), strict=True):
                    lines.append(f"reg {pin}; always @({names[source]}) {pin} <= #{wait} {names[source]};")
                index, width = ", ".join(pins), len(table)
                ones = "".join(str(bit) for bit in reversed(table))
                lines.append(f"wire [{width - 1}:0] t{gate}_{j} = {width}'b{ones};")
                rise, fall = delay[:, 0, k].min(), delay[:, 1, k].min()
                lines.append(f"wire #({rise}, {fall}) {names[nets[k]]} = t{gate}_{j}[{{{index}}}];")
                lines.append(f"integer c{nets[k]} = 0; always @({names[nets[k]]}) c{nets[k]} = c{nets[k]} + 1;")
                assert output.arcs
    sources = source_nets(netlist)
    lines += [f"reg s{net}; wire #({moves[net, 0]}, {moves[net, 1]}) n{net} = s{net};" for net in sources]
    lines.append("initial begin")
    driven = [int(net) for gate in netlist.gates for net in gate.outputs]
    for cycle in range(bits.shape[1]):
        lines += [f"s{net} = {bits[net, cycle]};" for net in sources]
        lines.append("#1000000;")
        if cycle == 0:
            lines += [f"c{net} = 0;" for net in driven]
    lines += [f'$display("{net} %0d", c{net});' for net in driven]
    return "\n".join([*lines, "end", "endmodule", ""])


@needs_library
@needs_iverilog
@pytest.mark.parametrize("seed", range(2))
def test_icarus_verilog_counts_the_same(seed: int, tmp_path: Path) -> None:
    """In steps of 1 ps, in which hardly ever a pulse ends just when it would be let through: then they may differ."""
    netlist = random_netlist(CellLibrary.load("osu018"), 80, 8, seed)
    values, timing, activity = simulated(
        netlist, {"x": np.random.default_rng(seed).integers(0, 256, CYCLES)}, step=0.001
    )
    bench = tmp_path / "bench.v"
    bench.write_text(behavioral(netlist, *in_steps(netlist, timing, 0.001), unpack(values, CYCLES)))
    subprocess.run(["iverilog", "-g2009", "-o", str(tmp_path / "bench"), str(bench)], check=True)
    done = subprocess.run(["vvp", str(tmp_path / "bench")], capture_output=True, text=True, check=True)
    counted = {int(net): int(count) for net, count in re.findall(r"^(\d+) (\d+)$", done.stdout, re.MULTILINE)}
    expected = np.array([counted[net] for net in counted])
    found = activity.toggles[list(counted)]
    assert activity.glitches > 0.05
    assert expected.sum() > 2000
    assert abs(found - expected).sum() <= 0.002 * expected.sum()
