"""The facts of `inhibit env`: complete, and honest about what is missing."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from packaging.requirements import Requirement

from inhibitor_transformers.attention import engine_report
from inhibitor_transformers.evaluation import environment as env


@pytest.fixture(scope="module")
def facts() -> list[env.Fact]:
    return env.environment()


@pytest.fixture
def declared(monkeypatch):
    """Lets a test say what the package requires and which versions are installed."""

    def declare(requirements: list[str], versions: dict[str, str]) -> None:
        monkeypatch.setattr(env.metadata, "requires", lambda name: requirements)
        monkeypatch.setattr(env, "_version", versions.get)

    return declare


def value_of(facts: list[env.Fact], section: str, name: str) -> str:
    (value,) = [f.value for f in facts if (f.section, f.name) == (section, name)]
    return value


def test_sections_come_together_in_order(facts):
    sections = list(dict.fromkeys(f.section for f in facts))
    assert sections == ["packages", "processor", "accelerators", "engines", "extras", "energy counters"]
    assert [f.section for f in facts] == sorted((f.section for f in facts), key=sections.index)


def test_every_fact_is_one_line_of_text_with_a_name_of_its_own(facts):
    assert all(isinstance(text, str) and text and "\n" not in text for fact in facts for text in fact)
    assert len({(f.section, f.name) for f in facts}) == len(facts)


def test_installed_versions_are_supported(facts):
    assert value_of(facts, "packages", "torch").startswith(f"{torch.__version__} (supported: ")
    assert "(supported: " in value_of(facts, "packages", "transformers")


def test_torch_threads(facts):
    assert value_of(facts, "processor", "torch threads") == str(torch.get_num_threads())


def test_engines_are_those_of_the_report(facts):
    named = [(f.name, f.value) for f in facts if f.section == "engines"]
    assert named == [(name, f"{status} ({description})") for name, description, status in engine_report()]


@pytest.mark.parametrize(
    ("version", "verdict"),
    [
        ("5.20.0", "5.20.0 (supported: >=5.20, <6)"),
        ("5.23.0+local", "5.23.0+local (supported: >=5.20, <6)"),
        ("5.19.1", "5.19.1 (NOT SUPPORTED: >=5.20, <6)"),
        ("6.0.0", "6.0.0 (NOT SUPPORTED: >=5.20, <6)"),
        (None, "not installed, needed: >=5.20, <6"),
    ],
)
def test_version_against_range(declared, version, verdict):
    declared(["transformers<6,>=5.20"], {"transformers": version} if version else {})
    assert env._against_range("transformers", Requirement("transformers<6,>=5.20")) == verdict


def test_undeclared_range_is_not_called_supported(declared):
    declared([], {"torch": "2.13.0"})
    assert env._against_range("torch", None).startswith("2.13.0 (supported range unknown")


REQUIREMENTS = [
    "torch>=2",
    'matplotlib>=3.9; extra == "plots"',
    'pytest>=8; extra == "test"',
    'inhibitor-transformers[plots]; extra == "test"',
]


def extra_status(extra: str) -> str:
    return env._extra_status(extra, env._requirements(with_extras=True))


def test_installed_extra(declared):
    declared(REQUIREMENTS, {"matplotlib": "3.10", "pytest": "8.0"})
    assert extra_status("test") == "installed"


def test_missing_extra_names_what_is_missing_and_the_command(declared):
    declared(REQUIREMENTS, {"pytest": "8.0"})
    assert extra_status("test") == "missing matplotlib: pip install 'inhibitor-transformers[test]'"


def test_extra_that_is_too_old_is_missing(declared):
    declared(REQUIREMENTS, {"matplotlib": "3.8"})
    assert extra_status("plots") == "missing matplotlib: pip install 'inhibitor-transformers[plots]'"


def test_extras_do_not_count_as_requirements(declared):
    declared(REQUIREMENTS, {})
    assert [r.name for r in env._requirements()] == ["torch"]


def test_cuda_status_without_cuda_build():
    assert env._cuda_status(None, "CUDA", "NVIDIA").endswith("was built without CUDA")


def test_cuda_status_without_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "no usable AMD device or driver" in env._cuda_status("6.4", "ROCm", "AMD")


def test_transformers_is_not_imported():
    code = (
        "import sys; from inhibitor_transformers.evaluation.environment import environment; environment();"
        "sys.exit('transformers' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
