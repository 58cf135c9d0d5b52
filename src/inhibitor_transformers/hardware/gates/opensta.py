"""The same netlist and activity in OpenSTA: an independent timer and power calculator, to check ours against.

Debian's OpenSTA is of November 2019. Its paths and the switching power of its nets are as ours. Its internal power is
another: for each toggle of an *input* it takes the sum of a rise and a fall, times the chance that the output sees that
input, where Liberty has one of the two for each toggle of the *output*; later versions take their mean, as we do. So an
inverter's internal energy is twice ours, an exclusive or's about the same, and what both find in one cell agrees only by
its tables. The charge of clock pins it counts for their driver, not for the flip-flops.
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
    """What OpenSTA says; ns and joules per cycle."""

    arrival: float  # the latest arrival at an output port or a register, after the clock's edge
    switching: float  # of nets that gates drive
    internal: float  # of gates
    register_switching: float  # of nets that flip-flops drive
    register_internal: float  # of flip-flops
    version: str


def check(netlist: Netlist, activity: Activity, period: float = 100.0) -> Report:
    """OpenSTA's figures with the activity that was measured. Raises ValueError where `sta` is not installed."""
    program = shutil.which("sta")
    if program is None:
        raise ValueError("OpenSTA is not installed; install Debian's package opensta")
    with tempfile.TemporaryDirectory() as folder:
        files = {
            "design.v": to_verilog(netlist),
            "wires.lib": _wire_load(netlist),
            "script.tcl": _script(netlist, activity, period),
        }
        for name, text in files.items():
            Path(folder, name).write_text(text, encoding="utf-8")
        done = subprocess.run(
            [program, "-exit", "script.tcl"], cwd=folder, capture_output=True, text=True, check=False, timeout=600
        )
    if done.returncode or "Error" in done.stdout + done.stderr:  # it goes on after an error
        raise ValueError(f"sta fails: {(done.stdout + done.stderr).strip()[-2000:]}")
    return _read(done.stdout, period)


def to_verilog(netlist: Netlist) -> str:
    """Structural Verilog, module `top`; the ports are nets of one bit, net 7 is n7, and gate 5 is g5.

    Output ports on a constant, on an input or on the net of another one are left out. Raises ValueError for gated clocks.
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
        register, clock = netlist.library.flip_flop, int(netlist.ports[netlist.clock].nets[0])
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
            "input_threshold": 50, "output_threshold": 50, "slew_lower_threshold": 20, "slew_upper_threshold": 80
        }.items()
    )
    return f"""library (wires) {{
  time_unit : "1ns"; voltage_unit : "1V"; current_unit : "1uA"; pulling_resistance_unit : "1kohm";
  leakage_power_unit : "1nW"; capacitive_load_unit (1,pf); nom_voltage : {netlist.library.voltage};
{thresholds}  wire_load (wires) {{
    resistance : 0; capacitance : {netlist.library.wire_per_sink}; area : 0; slope : 1; fanout_length (1, 1);
  }}
}}
"""


def _script(netlist: Netlist, activity: Activity, period: float) -> str:
    register = netlist.library.flip_flop
    assert register.flip_flop is not None
    clock = f"-name clock -period {period}"
    if netlist.clock is not None:
        clock += f" [get_ports {_name(int(netlist.ports[netlist.clock].nets[0]))}]"
    inputs = sorted({int(net) for port in netlist.inputs.values() for net in port.nets})
    names = " ".join(map(_name, inputs))
    driver = f"-lib_cell {register.name} -from_pin {register.flip_flop.clock} -pin {register.flip_flop.output}"
    slew = f"-input_transition_rise {CLOCK_SLEW} -input_transition_fall {CLOCK_SLEW}"
    load = register.capacitance[register.flip_flop.data] + netlist.library.wire_per_sink
    lines = [
        f"read_liberty {netlist.library.path}",
        "read_liberty wires.lib",
        "read_verilog design.v",
        "link_design top",
        f"create_clock {clock}",
        *([f"set_clock_transition {CLOCK_SLEW} [get_clocks clock]"] if netlist.clock else []),
        # A driving cell adds only what the load adds to its delay without one.
        *(
            f"set_input_delay {delay(np.zeros(1), np.full(1, CLOCK_SLEW))[0]} -{edge} -clock clock [get_ports {{{names}}}]"
            for edge, delay in zip(("rise", "fall"), register.outputs[0].arcs[0].delay, strict=True)
        ),
        f"set_driving_cell {driver} {slew} [get_ports {{{names}}}]",
        "set_output_delay 0 -clock clock [all_outputs]",
        f"set_load -pin_load {load} [all_outputs]",
        "set_wire_load_model -name wires -library wires",
    ]
    rate = activity.toggles / activity.cycles
    lines += [f"set_power_activity -input_ports [get_ports n{net}] -activity {rate[net]:.6g} -duty 0.5" for net in inputs]
    # Below `set_power_activity -pins`, which fails in version 2.0.17.
    for place, gate in enumerate(netlist.gates):
        for output, net in zip(gate.cell.outputs, gate.outputs, strict=True):
            lines.append(f"::sta::set_power_pin_activity [get_pins g{place}/{output.pin}] {rate[net]:.6g} 0.5")
    for place, net in enumerate(netlist.flip_flops.output):
        pin = f"r{place}/{register.flip_flop.output}"
        lines.append(f"::sta::set_power_pin_activity [get_pins {pin}] {rate[net]:.6g} 0.5")
    return "\n".join([*lines, "report_checks -path_delay max -digits 4", "report_power -digits 6", ""])


def _read(text: str, period: float) -> Report:
    arrival = re.search(r"^\s*(\S+)\s+data arrival time", text, re.MULTILINE)
    version = re.search(r"OpenSTA (\S+)", text)
    rows = {kind: re.search(rf"^{kind}\s+(\S+)\s+(\S+)", text, re.MULTILINE) for kind in ("Combinational", "Sequential")}
    if not arrival or not version or not all(rows.values()):
        raise ValueError(f"sta reports neither path nor power: {text[-2000:]}")
    internal, switching, register_internal, register_switching = (
        float(row[column]) * period * 1e-9 for row in rows.values() if row for column in (1, 2)
    )
    return Report(float(arrival[1]), switching, internal, register_switching, register_internal, version[1])
