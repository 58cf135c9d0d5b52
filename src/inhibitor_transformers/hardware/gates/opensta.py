"""The same netlist in OpenSTA, an independent timer and power calculator, to check ours against.

Debian's OpenSTA, of November 2019, takes no activity of single nets: it propagates that of the inputs, without
glitches, or gives all pins the same one. So it is asked what every cell takes with one toggle per cycle at all pins,
and `Report.logic` weighs that with the toggles that were measured. For one toggle at every pin it adds up all inputs of
a gate that may have caused the output's, each with half of the sum of a rise and a fall (an inverter's: with all of
it), where later versions, and we, take the mean over causes and edges; `Report` has been put right. A clock pin counts
as the sum of a rise and a fall for each of the cycle's two edges, twice what Liberty says, and its charge counts for
its driver.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .netlist import ONE, ZERO, Netlist
from .simulate import Activity
from .timing import CLOCK_SLEW


class Report(NamedTuple):
    """What OpenSTA says."""

    arrival: float  # ns, the latest at an output port or a register, after the clock's edge
    switching: np.ndarray  # (gates,) J for one toggle of all outputs
    internal: np.ndarray  # (gates,) likewise
    registers: np.ndarray  # (F,) J inside a flip-flop in a cycle in which data and output toggle once
    version: str

    def logic(self, netlist: Netlist, activity: Activity) -> float:
        """J per cycle of switching and internal energy in gates, with the toggles that were measured."""
        toggles = np.array([activity.toggles[list(gate.outputs)].mean() for gate in netlist.gates]) / activity.cycles
        return float(toggles @ (self.switching + self.internal))


def check(netlist: Netlist, period: float = 100.0) -> Report:
    """OpenSTA's figures. Raises ValueError where `sta` is not installed, fails, or where clocks are gated."""
    program = shutil.which("sta")
    if program is None:
        raise ValueError("OpenSTA is not installed; install Debian's package opensta")
    with tempfile.TemporaryDirectory() as folder:
        files = {
            "design.v": to_verilog(netlist),
            "wires.lib": _wire_load(netlist),
            "script.tcl": _script(netlist, period),
        }
        for name, text in files.items():
            Path(folder, name).write_text(text, encoding="utf-8")
        done = subprocess.run(
            [program, "-exit", "script.tcl"], cwd=folder, capture_output=True, text=True, check=False, timeout=600
        )
    if done.returncode or "Error" in done.stdout + done.stderr:  # it goes on after an error
        raise ValueError(f"sta fails: {(done.stdout + done.stderr).strip()[-2000:]}")
    return _read(done.stdout, netlist, period)


def to_verilog(netlist: Netlist) -> str:
    """Structural Verilog, module `top`; the ports are nets of one bit, net 7 is n7, and gate 5 is g5.

    Output ports on a constant, on an input or on the net of another one are left out. Raises ValueError for gated
    clocks.
    """
    if (netlist.flip_flops.enable != ONE).any():
        raise ValueError("clock gates are not written as Verilog; map the circuit with Recipe(gate_clocks=False)")
    inputs = {int(net) for port in netlist.ports.values() if port.direction == "input" for net in port.nets}
    outputs = {int(net) for port in netlist.outputs.values() for net in port.nets} - inputs - {ZERO, ONE}
    ports = [f"input {_name(net)}" for net in sorted(inputs)] + [f"output {_name(net)}" for net in sorted(outputs)]
    wires = sorted(set(range(2, netlist.net_count)) - inputs - outputs)
    lines = [f"module top({', '.join(ports)});", *(f"wire {_name(net)};" for net in wires)]
    for place, gate in enumerate(netlist.gates):
        names = [*gate.cell.inputs, *(output.pin for output in gate.cell.outputs)]
        lines.append(_instance(gate.cell.name, f"g{place}", names, [*gate.inputs, *gate.outputs]))
    if netlist.clock is not None:
        register, clock = netlist.cell_library.flip_flop, int(netlist.ports[netlist.clock].nets[0])
        assert register.flip_flop is not None
        for place, (data, output) in enumerate(zip(netlist.flip_flops.data, netlist.flip_flops.output, strict=True)):
            lines.append(_instance(register.name, f"r{place}", register.flip_flop, [clock, int(data), int(output)]))
    return "\n".join([*lines, "endmodule", ""])


def _instance(kind: str, name: str, pins: Sequence[str], nets: Sequence[int]) -> str:
    connections = ", ".join(f".{pin}({_name(net)})" for pin, net in zip(pins, nets, strict=True))
    return f"{kind} {name} ({connections});"


def _name(net: int) -> str:
    return {ZERO: "1'b0", ONE: "1'b1"}.get(net, f"n{net}")


def _wire_load(netlist: Netlist) -> str:
    """A library with nothing but the capacitance of wires, by the pins that a net drives."""
    thresholds = "".join(
        f"  {kind}_pct_{edge} : {percent};\n"
        for edge in ("rise", "fall")
        for kind, percent in {
            "input_threshold": 50,
            "output_threshold": 50,
            "slew_lower_threshold": 20,
            "slew_upper_threshold": 80,
        }.items()
    )
    return f"""library (wires) {{
  time_unit : "1ns"; voltage_unit : "1V"; current_unit : "1uA"; pulling_resistance_unit : "1kohm";
  leakage_power_unit : "1nW"; capacitive_load_unit (1,pf); nom_voltage : {netlist.cell_library.voltage};
{thresholds}  wire_load (wires) {{
    resistance : 0; capacitance : {netlist.cell_library.wire_per_sink}; area : 0; slope : 1; fanout_length (1, 1);
  }}
}}
"""


def _script(netlist: Netlist, period: float) -> str:
    register = netlist.cell_library.flip_flop
    assert register.flip_flop is not None
    clock = f"-name clock -period {period}"
    if netlist.clock is not None:
        clock += f" [get_ports {_name(int(netlist.ports[netlist.clock].nets[0]))}]"
    inputs = sorted({int(net) for port in netlist.inputs.values() for net in port.nets})
    names = " ".join(map(_name, inputs))
    driver = f"-lib_cell {register.name} -from_pin {register.flip_flop.clock} -pin {register.flip_flop.output}"
    slew = f"-input_transition_rise {CLOCK_SLEW} -input_transition_fall {CLOCK_SLEW}"
    clock_slew = np.full(1, CLOCK_SLEW)
    load = register.capacitance[register.flip_flop.data] + netlist.cell_library.wire_per_sink
    lines = [
        f"read_liberty {netlist.cell_library.path}",
        "read_liberty wires.lib",
        "read_verilog design.v",
        "link_design top",
        f"create_clock {clock}",
        *([f"set_clock_transition {CLOCK_SLEW} [get_clocks clock]"] if netlist.clock else []),
        # A driving cell adds only what the load adds to its delay without one.
        *(
            f"set_input_delay {delay(np.zeros(1), clock_slew)[0]} -{edge} -clock clock [get_ports {{{names}}}]"
            for edge, delay in zip(("rise", "fall"), register.outputs[0].arcs[0].delay, strict=True)
        ),
        f"set_driving_cell {driver} {slew} [get_ports {{{names}}}]",
        "set_output_delay 0 -clock clock [all_outputs]",
        f"set_load -pin_load {load} [all_outputs]",
        "set_wire_load_model -name wires -library wires",
    ]
    lines.append("set_power_activity -global -activity 1 -duty 0.5")
    lines.append("report_checks -path_delay max -digits 4")
    # All at once takes a time that grows with the square of their number.
    cells = [f"g{place}" for place in range(len(netlist.gates))]
    cells += [f"r{place}" for place in range(len(netlist.flip_flops.data))]
    lines += [f"report_power -instances [get_cells {name}] -digits 6" for name in cells]
    return "\n".join([*lines, ""])


def _read(text: str, netlist: Netlist, period: float) -> Report:
    arrival = re.search(r"^\s*(\S+)\s+data arrival time", text, re.MULTILINE)
    version = re.search(r"OpenSTA (\S+)", text)
    powers = re.findall(r"^\s*(\S+)\s+(\S+)\s+\S+\s+\S+\s+[gr]\d+\s*$", text, re.MULTILINE)
    gates = len(netlist.gates)
    if not arrival or not version or len(powers) != gates + len(netlist.flip_flops.data):
        raise ValueError(f"sta reports neither path nor power: {text[-2000:]}")
    internal, switching = np.array(powers, dtype=np.float64).T * period * 1e-9
    causes = np.array([max(2, len(gate.inputs)) for gate in netlist.gates])
    return Report(float(arrival[1]), switching[:gates], internal[:gates] / causes, internal[gates:], version[1])
