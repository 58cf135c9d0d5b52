from __future__ import annotations

import numpy as np
import pytest

from inhibitor_transformers.hardware.gates.liberty import parse

TEXT = """
/* a comment { */
library (small) {
  time_unit : "1ns";   // another one
  capacitive_load_unit (1, pf);
  cell (AND2) { area : 32;
    pin(Y) { function : "(A B)";
      timing () { values ( \\
        "1, 2", \\
        "3, 4"); }
      timing () { related_pin : "B"; }
    }
  }
}
"""


def test_groups_attributes_and_numbers() -> None:
    library = parse(TEXT)
    assert library.arguments == ["small"]
    assert library.attributes["capacitive_load_unit"] == ["1", "pf"]
    cell = library.first("cell")
    assert cell is not None
    assert cell.number("area") == 32
    pin = cell.first("pin")
    assert pin is not None
    assert pin.text("function") == "(A B)"
    first, second = pin.all("timing")
    assert np.array_equal(first.numbers("values"), [1, 2, 3, 4])
    assert second.text("related_pin") == "B"
    assert second.first("values") is None


@pytest.mark.parametrize("text", ["library (x) { cell (y) {", "cell (x) { }", "library { }", ""])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no Liberty library"):
        parse(text)
