"""How numbers are written."""

from __future__ import annotations

import pytest

from inhibitor_transformers.report.formatting import duration, significant
from tests.report.cases import INF, NAN


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (1289.6, "1,290"),
        (999.7, "1,000"),
        (527.3, "527"),
        (88.14, "88.1"),
        (9.996, "10.0"),
        (0.2214, "0.221"),
        (0.00012345, "0.000123"),
        (0.000012345, "1.23e-05"),
        (0.0, "0"),
        (-1.5, "-1.50"),
        (NAN, "undefined"),
        (INF, "infinite"),
        (-INF, "-infinite"),
        (None, "–"),
        (12345678.9, "12,345,679"),
        (1e300, "1.00e+300"),
    ],
)
def test_three_digits(value, written):
    assert significant(value) == written


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (0, "–"),
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (119.4, "119 s"),
        (119.6, "2 min 0 s"),
        (187.0, "3 min 7 s"),
        (7199.7, "2 h 0 min"),
        (9000.0, "2 h 30 min"),
        (NAN, "undefined"),
    ],
)
def test_durations(seconds, written):
    assert duration(seconds) == written
