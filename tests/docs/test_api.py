"""The API reference names what the packages' faces export."""

from __future__ import annotations

import inhibitor_transformers
from inhibitor_transformers import attention, models
from tests.conftest import REPOSITORY


def test_attention_is_listed_by_hand_and_whole():
    """In an order of its own, the operation first; the other pages list what `__all__` holds."""
    page = (REPOSITORY / "docs" / "api" / "attention.rst").read_text(encoding="utf-8")
    listed = {
        line.split(":: ")[1] for line in page.splitlines() if line.startswith((".. autofunction", ".. autoclass"))
    }
    assert listed == set(attention.__all__)


def test_what_the_package_exports_is_on_two_pages():
    """docs/api/index.rst says that attention and models hold all of it."""
    assert set(inhibitor_transformers.__all__) - {"__version__"} <= {*attention.__all__, *models.__all__}
