"""All tests of integers, with kernels for ARM in place of this machine's: minutes."""

from __future__ import annotations

import pytest

from tests.attention.integer.test_engines import *  # noqa: F403

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("processor")]
