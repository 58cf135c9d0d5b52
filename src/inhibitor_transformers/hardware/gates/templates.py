"""What yosys and abc read beside the circuit: how adders, carries and flip-flops become the library's cells."""

from __future__ import annotations

import re

from .cells import CellLibrary

GATED = "gated_flip_flop"
"""A flip-flop whose clock stands still unless it is enabled: pins C, D, E, Q. Flip-flops share clock gates."""

GATED_MODULE = f"(* blackbox *) module {GATED}(input C, D, E, output Q); endmodule\n"

RIPPLE = """
(* techmap_celltype = "$alu" *)
module ripple(A, B, CI, BI, X, Y, CO);
    parameter A_SIGNED = 0;
    parameter B_SIGNED = 0;
    parameter A_WIDTH = 1;
    parameter B_WIDTH = 1;
    parameter Y_WIDTH = 1;
    input [A_WIDTH-1:0] A;
    input [B_WIDTH-1:0] B;
    input CI, BI;
    output [Y_WIDTH-1:0] X, Y, CO;

    wire [Y_WIDTH-1:0] a, b, c;
    \\$pos #(.A_SIGNED(A_SIGNED), .A_WIDTH(A_WIDTH), .Y_WIDTH(Y_WIDTH)) widen_a (.A(A), .Y(a));
    \\$pos #(.A_SIGNED(B_SIGNED), .A_WIDTH(B_WIDTH), .Y_WIDTH(Y_WIDTH)) widen_b (.A(B), .Y(b));
    wire [Y_WIDTH-1:0] addend = BI ? ~b : b;
    assign c = {CO, CI};
    assign X = a ^ addend;
    assign Y = X ^ c;
    genvar i;
    generate
        for (i = 0; i < Y_WIDTH; i = i + 1) begin
            assign CO[i] = (a[i] & addend[i]) | (X[i] & c[i]);
        end
    endgenerate
endmodule
"""

RESET_ENABLES = "".join(
    f"""
module \\$_SDFFE_PP{value}P_ (input D, C, R, E, output Q);
    \\$_DFFE_PP_ cell (.D(R ? 1'b{value} : D), .C(C), .E(E | R), .Q(Q));
endmodule
"""
    for value in (0, 1)
)
"""Techmap: a reset becomes a part of data and enable, so that the clock can be gated; yosys gives the enable up."""

_LOGIC = """
    generate if ({constant}) begin
        assign sum = {total};
        assign carry = {carry};
    end else begin
        {cell} cell (.{pins}, .{sum_pin}(sum), .{carry_pin}(carry));
    end endgenerate
endmodule
"""


def adders(library: CellLibrary) -> str:
    """Techmap: `half_adder` and `full_adder` as cells, unless an input is constant: then logic is cheaper."""
    text = ""
    for module, names, total, carry in (
        ("half_adder", "ab", "a ^ b", "a & b"),
        ("full_adder", "abc", "a ^ b ^ c", "a & b | (a ^ b) & c"),
    ):
        cell, sum_pin, carry_pin = library.adders[len(names)]
        text += f"module {module}(input {', '.join(names)}, output sum, carry);\n"
        text += "".join(f"    parameter _TECHMAP_CONSTMSK_{name}_ = 1'b0;\n" for name in names)
        text += _LOGIC.format(
            constant=" || ".join(f"_TECHMAP_CONSTMSK_{name}_" for name in names),
            total=total,
            carry=carry,
            cell=cell.name,
            pins=", .".join(f"{pin}({name})" for pin, name in zip(cell.inputs, names, strict=True)),
            sum_pin=sum_pin,
            carry_pin=carry_pin,
        )
    return text


def flip_flops(library: CellLibrary) -> str:
    """Techmap: yosys' own flip-flops as the library's, and those with an enable as `GATED`."""
    cell = library.flip_flop
    assert cell.flip_flop is not None
    clock, data, output = cell.flip_flop
    return f"""
module \\$_DFF_P_ (input D, C, output Q);
    {cell.name} cell (.{clock}(C), .{data}(D), .{output}(Q));
endmodule
module \\$_DFFE_PP_ (input D, C, E, output Q);
    {GATED} cell (.C(C), .D(D), .E(E), .Q(Q));
endmodule
"""


def gates_only(library: CellLibrary, text: str) -> str:
    """The library's text for abc, which may then use gates, but neither pads nor buffers of clocks."""
    named = re.compile(r"^(\s*cell\s*\(\s*\"?(\w+)\"?\s*\)\s*\{)", re.MULTILINE)

    def mark(match: re.Match[str]) -> str:
        usable = match[2] in library.cells and not match[2].startswith("CLKBUF")
        return match[1] if usable else f"{match[1]} dont_use : true;"

    return named.sub(mark, text)


def constraints(library: CellLibrary) -> str:
    """For abc: what drives the logic's inputs, and what its outputs drive (fF): mostly the pins of adders."""
    inverters = [cell for cell in library.cells.values() if cell.tables == ((1, 0),)]
    strongest = min(inverters, key=lambda cell: sum(arc.delay[0].values[-1, 0] for arc in cell.outputs[0].arcs))
    loads = library.adders[3][0] if 3 in library.adders else strongest
    load = sum(loads.capacitance.values()) / len(loads.capacitance) + library.wire_per_sink
    return f"set_driving_cell {strongest.name}\nset_load {1000 * load:.1f}\n"
