"""Engine `cpu` in forked processes, data-loader workers and several Python threads; its memory."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from inhibitor_transformers.attention import inhibitor_attention
from inhibitor_transformers.attention.cpu import library
from tests.attention.data_parallel import gradients, half_of_the_batch, whole_batch
from tests.attention.engine_cases import Shape, inputs, outputs

if library.unavailable():
    pytest.skip(f"engine cpu: {library.unavailable()}", allow_module_level=True)


class Attended(Dataset):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> torch.Tensor:
        return inhibitor_attention(**case(index), engine="cpu")


def case(seed: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return inputs(Shape(2, 4, 2, 70, 65, 16, 16), torch.randn)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_a_forked_child_of_a_threaded_parent_does_not_hang():
    expected = inhibitor_attention(**case(0), engine="cpu")  # starts the parent's pool
    child = os.fork()
    if child == 0:
        same = torch.equal(inhibitor_attention(**case(0), engine="cpu"), expected)
        os._exit(0 if same else 1)
    _, status = os.waitpid(child, 0)
    assert status == 0


@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux only")
def test_data_loader_workers():
    expected = [inhibitor_attention(**case(i), engine="cpu") for i in range(4)]
    loader = DataLoader(Attended(), batch_size=None, num_workers=2, multiprocessing_context="fork")
    assert all(torch.equal(got, want) for got, want in zip(loader, expected, strict=True))


def test_concurrent_calls():
    cases = [case(i) for i in range(4)]
    grad = torch.randn(2, 4, 70, 16)

    def work(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return outputs(tensors, grad, "cpu", torch.float32)

    expected = [work(tensors) for tensors in cases]
    with ThreadPoolExecutor(4) as pool:
        for got, want in zip(pool.map(work, cases * 4), expected * 4, strict=True):
            assert all(torch.equal(got[name], want[name]) for name in want)


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="torch was built without gloo")
def test_two_data_parallel_processes_have_the_gradients_of_one(tmp_path: Path):
    torch.multiprocessing.spawn(half_of_the_batch, (str(tmp_path),), nprocs=2)
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    model, texts = whole_batch()
    alone = gradients(whole_batch()[0], {name: t.chunk(2)[0] for name, t in texts.items()})
    expected = gradients(model, texts)
    scalars = [name for name in expected if "inhibitor" in name]
    assert len(scalars) == 8  # four in each of two layers
    for name, wanted in expected.items():
        tolerance = 1e-5 * wanted.abs().max().item()
        for process in found:
            torch.testing.assert_close(process[name], wanted, rtol=0, atol=tolerance)
        if name in scalars:
            assert (alone[name] - wanted).abs().max() > 100 * tolerance, "one half would do as well"


MEASURE_MEMORY = """
import torch
from inhibitor_transformers.attention import inhibitor_attention
torch.set_num_threads(1)
backward, heads = {backward}, {heads}
def memory(field):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(field))
def run(length):
    q, k, v = (torch.randn(1, heads, length, 64, requires_grad=backward) for _ in range(3))
    open("/proc/self/clear_refs", "w").write("5")  # the peak starts again from here
    before = memory("VmRSS")
    out = inhibitor_attention(q, k, v, engine="cpu")
    ballast = torch.zeros({ballast} << 18)
    if backward:
        out.sum().backward()
    return memory("VmHWM") - before
run(64)
print(run({length}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(("backward", "limit"), [(False, 4.0), (True, 4.0)])
def test_extra_memory_at_length_2048(backward, limit):
    """MiB above inputs and outputs. The scores alone would be 32 MiB, the differences 2 GiB."""
    tensor = 2 * 2048 * 64 * 4 / 2**20
    outputs_held = tensor * (5 if backward else 1)  # output, its gradient, three gradients
    peak = peak_mib(backward)
    assert peak - outputs_held < limit
    assert peak_mib(backward, ballast=32) - peak > 16  # the measurement sees what it should


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("length", [16384, pytest.param(32768, marks=pytest.mark.slow)])
def test_extra_memory_of_long_sequences(length):
    """MiB above inputs and output, of one head. Packed keys and values alone would be 8 and 16 MiB."""
    output = length * 64 * 4 / 2**20
    assert peak_mib(False, length, heads=1) - output < 4


def peak_mib(backward: bool, length: int = 2048, *, heads: int = 2, ballast: int = 0) -> float:
    code = MEASURE_MEMORY.format(backward=backward, length=length, heads=heads, ballast=ballast)
    # glibc raises its threshold as it goes, and keeps what is freed below it: then its habits would be measured.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(128 << 10)}
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return int(run.stdout) / 1024
