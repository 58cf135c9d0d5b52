"""Circuits as amaranth elaboratables, each beside an integer model in numpy that it equals bit by bit.

Every elaboratable has `ports() -> dict[str, Signal]`; `rtlil.to_rtlil` turns it into text for yosys.
"""
