from __future__ import annotations

import pytest

from tests.attention import test_cpu
from tests.attention.engine_cases import Shape, compare, inputs, masks

pytestmark = pytest.mark.usefixtures("isa")


@pytest.mark.parametrize("mask", test_cpu.MASKS)
@pytest.mark.parametrize("shape", test_cpu.SHAPES.values(), ids=test_cpu.SHAPES.keys())
def test_agrees(shape, mask):
    compare(inputs(shape), 3e-5, **masks(mask, shape))
