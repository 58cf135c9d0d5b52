"""All tests of the engine `cpu` in float32, with kernels for ARM in place of this machine's: minutes."""

from __future__ import annotations

import pytest

from tests.attention import test_cpu, test_cpu_bias, test_cpu_causal, test_cpu_decode, test_cpu_normalization

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("isa")]

for module in (test_cpu, test_cpu_bias, test_cpu_causal, test_cpu_decode, test_cpu_normalization):
    for name, test in vars(module).items():
        if name.startswith("test_"):
            globals()[f"{name}_of_{module.__name__.rpartition('.')[2]}"] = test
