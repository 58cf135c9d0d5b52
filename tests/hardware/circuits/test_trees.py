"""Carry-save trees equal sums of integers, and yosys keeps their adders."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.hardware.circuits.simulate import evaluate

pytest.importorskip("amaranth")

from amaranth.hdl import Const, Elaboratable, Module, Shape, Signal

from inhibitor_transformers.hardware.circuits.rtlil import to_rtlil
from inhibitor_transformers.hardware.circuits.trees import Columns

ADDERS_V = """
module full_adder(input a, b, c, output sum, carry);
  FAX1 _TECHMAP_REPLACE_ (.A(a), .B(b), .C(c), .YS(sum), .YC(carry));
endmodule
module half_adder(input a, b, output sum, carry);
  HAX1 _TECHMAP_REPLACE_ (.A(a), .B(b), .YS(sum), .YC(carry));
endmodule
"""


class Term(NamedTuple):
    width: int
    signed: bool
    shift: int
    negate: bool

    @property
    def shape(self) -> Shape:
        return Shape(self.width, signed=self.signed)


class Sum(Elaboratable):
    def __init__(self, width: int, terms: list[Term], constant: int = 0) -> None:
        self.width, self.terms, self.constant = width, terms, constant
        self.inputs = [Signal(term.shape, name=f"x{i}") for i, term in enumerate(terms)]
        self.total = Signal(width)

    def ports(self) -> dict[str, Signal]:
        return {signal.name: signal for signal in self.inputs} | {"total": self.total}

    def elaborate(self, platform: object) -> Module:
        m = Module()
        columns = Columns(self.width)
        for settled, (term, value) in enumerate(zip(self.terms, self.inputs, strict=True)):
            (columns.subtract if term.negate else columns.add)(value, term.shift, settled=settled % 3)
        columns.add_constant(self.constant)
        columns.add(Const(5, 4), 1)
        columns.subtract(Const(-3, 4), 2)
        m.d.comb += self.total.eq(columns.reduce(m))
        return m

    def model(self, values: list[int]) -> int:
        total = self.constant + 10 + 12
        for term, value in zip(self.terms, values, strict=True):
            total += (-value if term.negate else value) << term.shift
        return total % 2**self.width


def extremes(term: Term) -> tuple[int, int]:
    if term.signed:
        return -(2 ** (term.width - 1)), 2 ** (term.width - 1) - 1
    return 0, 2**term.width - 1


terms = st.builds(Term, st.integers(1, 6), st.booleans(), st.integers(0, 5), st.booleans())


@settings(max_examples=40, deadline=None)
@given(st.data(), st.integers(1, 12), st.lists(terms, max_size=9), st.integers(-5000, 5000))
def test_a_tree_is_a_sum(data: st.DataObject, width: int, terms: list[Term], constant: int) -> None:
    rows = [[extremes(term)[side] for term in terms] for side in (0, 1)]
    rows += [[data.draw(st.integers(*extremes(term))) for term in terms] for _ in range(4)]
    circuit = Sum(width, terms, constant)
    inputs = [{f"x{i}": value for i, value in enumerate(row)} for row in rows]
    assert evaluate(circuit, inputs, ["total"]) == [(circuit.model(row),) for row in rows]


def test_counting_bits_takes_the_fewest_full_adders() -> None:
    """Each takes one bit away: 15 bits become the 4 bits of their number by 11."""
    text = to_rtlil(Sum(5, [Term(1, False, 0, False)] * 15, constant=-22))
    assert text.count("cell \\full_adder") == 11


@pytest.mark.skipif(shutil.which("yosys") is None, reason="needs yosys (Debian package yosys)")
def test_yosys_reads_the_text_and_keeps_the_adders(tmp_path: Path) -> None:
    """Cells become FAX1 where asked for, and by `flatten` alone the circuit is the same one as arithmetic."""
    circuit = Sum(8, [Term(5, False, 0, False)] * 4)
    text = to_rtlil(circuit)
    assert text == to_rtlil(Sum(8, [Term(5, False, 0, False)] * 4))
    (tmp_path / "top.il").write_text(text)
    (tmp_path / "adders.v").write_text(ADDERS_V)
    (tmp_path / "gold.v").write_text(
        "module gold(input [4:0] x0, x1, x2, x3, output [7:0] total); assign total = x0 + x1 + x2 + x3 + 22; endmodule"
    )
    adders = text.count("cell \\full_adder")
    script = (
        "read_rtlil top.il; hierarchy -check -top top; proc; design -save d; techmap -map adders.v; flatten;"
        f" select -assert-count {adders} t:FAX1; select -assert-none t:full_adder; design -load d; flatten;"
        " read_verilog gold.v; proc; miter -equiv -flatten top gold both; sat -verify -prove trigger 0 both"
    )
    done = subprocess.run(["yosys", "-q", "-p", script], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
