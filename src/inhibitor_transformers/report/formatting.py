"""Formats numbers, in the same way in all forms of a report."""

from __future__ import annotations

import math
from collections.abc import Collection

MISSING = "–"


def significant(value: float | None) -> str:
    """Three significant digits: 1,240  527  52.7  1.42  0.221  0.00123  4.50e-06."""
    if value is None or not math.isfinite(value):
        return _not_finite(value)
    if value == 0:
        return "0"
    digits = 2 - math.floor(math.log10(abs(float(f"{value:.2e}"))))
    return f"{value:,.{max(digits, 0)}f}" if -6 <= digits <= 6 else f"{value:.2e}"


def correlation(value: float | None) -> str:
    """Cosines and correlations: three decimals."""
    return f"{value:z.3f}" if value is not None and math.isfinite(value) else _not_finite(value)


def duration(seconds: float) -> str:
    """0 is no time at all, as of a stage that only copies."""
    if not math.isfinite(seconds):
        return _not_finite(seconds)
    if seconds == 0:
        return MISSING
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    if whole < 7200:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def value_range(values: Collection[float], form: str) -> str:
    """From the least to the greatest value; one number where both read the same."""
    if not values or not all(map(math.isfinite, values)):
        return "undefined"
    low, high = format(min(values), form), format(max(values), form)
    if low == high:
        return low
    return f"{low} to {high}" if low.startswith("-") else f"{low}–{high}"


def _not_finite(value: float | None) -> str:
    if value is None:
        return MISSING
    # A correlation with a constant is NaN: no number, which must not look like a bad one.
    return "undefined" if math.isnan(value) else f"{'-' if value < 0 else ''}infinite"
