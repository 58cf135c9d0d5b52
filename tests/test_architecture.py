"""Imports go one way, and importing the package is cheap."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = "inhibitor_transformers"
ROOT = Path(__file__).resolve().parents[1] / "src" / PACKAGE

# What each part may import besides itself. A new part has to be given its place here.
MAY_IMPORT = {
    "common": set(),
    "attention": set(),
    "report": {"common"},
    "models": {"common", "attention"},
    "tasks": {"common", "attention", "models"},
    "evaluation": {"common", "attention", "report", "models", "tasks"},
    "distill": {"common", "attention", "models", "tasks", "evaluation"},
    "study": {"common", "attention", "report", "models", "tasks", "evaluation", "distill"},
    "quickstart": {"common", "attention", "report", "models", "tasks", "evaluation", "distill"},
    "deploy": {"common", "attention", "report", "models", "tasks", "evaluation"},
    # Its circuits and gates import nothing but each other; what compares heads reads models and texts.
    "hardware": {"common", "attention", "report", "models", "distill", "deploy"},
    "cli": {
        "hardware",
        "common",
        "attention",
        "report",
        "models",
        "tasks",
        "evaluation",
        "distill",
        "study",
        "quickstart",
        "deploy",
    },
}
FILES = sorted(ROOT.rglob("*.py"))


class Import(NamedTuple):
    """One imported module by its absolute name, e.g. `inhibitor_transformers.models.layer_map`."""

    module: str
    line: int


def imports_of(source: str, package: str) -> Iterator[Import]:
    """Every import in a file of `package`: at the top, inside functions, for types only, and by name."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")
            base = parents[: len(parents) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            # `from package import name` may name a module, so the full name is what is imported.
            yield from (Import(f"{module}.{alias.name}", node.lineno) for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            for argument in node.args[:1]:
                if isinstance(argument, ast.Constant):
                    yield Import(str(argument.value), node.lineno)


def package_of(file: Path) -> str:
    return ".".join([PACKAGE, *file.relative_to(ROOT).parent.parts])


def part_of(file: Path) -> str | None:
    """The part that a file belongs to; None for the modules beside the parts, which are the public face."""
    parts = file.relative_to(ROOT).parts
    return parts[0] if len(parts) > 1 else None


def module_of(file: Path) -> str:
    names = (package_of(file), *([] if file.stem == "__init__" else [file.stem]))
    return ".".join(names)


def find_circle(sources: Mapping[str, str]) -> list[str]:
    """Modules that import each other in a circle, the first of them once more at the end; [] where there is none.

    sources: by module; "package.__init__" is called "package".
    """
    imported: dict[str, set[str]] = {}
    for module, source in sources.items():
        is_package = any(other.startswith(f"{module}.") for other in sources)
        package = module if is_package else module.rpartition(".")[0]
        names = (i.module for i in imports_of(source, package))
        # `from module import name` is an import of the module unless the name is a module itself.
        found = {name if name in sources else name.rpartition(".")[0] for name in names}
        imported[module] = (found & sources.keys()) - {module}
    try:
        TopologicalSorter(imported).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def wrong_imports(part: str, source: str, package: str) -> list[str]:
    wrong = []
    for module, line in imports_of(source, package):
        names = module.split(".")
        if names[0] != PACKAGE or names[1:] == ["__version__"]:
            continue
        target = names[1] if len(names) > 1 else None
        if target != part and target not in MAY_IMPORT[part]:
            wrong.append(f"line {line}: {part} must not import {module}")
    return wrong


def test_every_part_has_its_place() -> None:
    parts = {part for file in FILES if (part := part_of(file))}
    assert {"attention", "models"} <= parts <= MAY_IMPORT.keys()


@pytest.mark.parametrize("file", [f for f in FILES if part_of(f)], ids=lambda f: str(f.relative_to(ROOT)))
def test_nothing_imports_upward(file: Path) -> None:
    part = part_of(file)
    assert part is not None
    assert not wrong_imports(part, file.read_text(encoding="utf-8"), package_of(file))


@pytest.mark.parametrize(
    "source",
    [
        "from ..distill import losses",
        "from .. import cli",
        "def f():\n    from inhibitor_transformers.distill.losses import kl",
        "import inhibitor_transformers.cli",
        "import inhibitor_transformers",
        "from inhibitor_transformers import InhibiDistilBertModel",
        "from importlib import import_module\nimport_module('inhibitor_transformers.distill')",
        "import importlib\nimportlib.import_module('inhibitor_transformers.distill.teacher.teacher')",
    ],
)
def test_an_upward_import_is_found(source: str) -> None:
    assert len(wrong_imports("models", source, f"{PACKAGE}.models")) == 1


@pytest.mark.parametrize(
    "source",
    ["from ..attention import dispatch", "from . import layers", "from .. import __version__", "import torch"],
)
def test_an_import_that_is_right_is_left_alone(source: str) -> None:
    assert wrong_imports("models", source, f"{PACKAGE}.models") == []


def test_no_modules_import_each_other() -> None:
    """Neither when they are loaded, nor within functions, nor for types only."""
    assert find_circle({module_of(file): file.read_text(encoding="utf-8") for file in FILES}) == []


@pytest.mark.parametrize(
    "of_b",
    [
        "from .a import A",
        "from . import a",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .a import A",
        "def f():\n    from .a import A",
        "from .c import C",
    ],
)
def test_a_circle_is_found(of_b: str) -> None:
    sources = {"p": "from .a import A", "p.a": "from .b import B", "p.b": of_b, "p.c": "import p.a"}
    circle = find_circle(sources)
    assert circle[0] == circle[-1]
    assert {"p.a", "p.b"} <= set(circle)


def test_no_circle_is_found_where_there_is_none() -> None:
    assert find_circle({"p": "from .a import A", "p.a": "from .b import B\nimport torch", "p.b": ""}) == []


@pytest.mark.parametrize("file", sorted((ROOT / "attention").rglob("*.py")), ids=lambda f: str(f.relative_to(ROOT)))
def test_attention_imports_torch_only(file: Path) -> None:
    outside = {i.module.split(".")[0] for i in imports_of(file.read_text(encoding="utf-8"), package_of(file))}
    allowed = {"torch", PACKAGE, *sys.stdlib_module_names}
    assert outside <= (allowed | {"triton"} if file.parent.name == "triton" else allowed)


def in_fresh_process(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_importing_the_package_loads_nothing_heavy() -> None:
    heavy = ["torch", "transformers", "datasets", "matplotlib", "sklearn", "scipy", "sentence_transformers", "typer"]
    in_fresh_process(
        f"import sys, {PACKAGE}\nloaded = [name for name in {heavy} if name in sys.modules]\nassert not loaded, loaded"
    )


def test_the_operation_needs_no_transformers() -> None:
    in_fresh_process(
        f"""
import sys
for name in ("transformers", "datasets", "huggingface_hub", "accelerate", "numpy.typing"):
    sys.modules[name] = None  # importing it raises ImportError
import torch
from {PACKAGE}.attention import inhibitor_attention
assert inhibitor_attention(*torch.ones(3, 1, 1, 2, 2)).shape == (1, 1, 2, 2)
from {PACKAGE} import inhibitor_attention as same
assert same is inhibitor_attention
"""
    )


@pytest.mark.parametrize("module", ["transformers", f"{PACKAGE}.attention.triton.launch"])
def test_importing_the_operation_does_not_load(module: str) -> None:
    in_fresh_process(f"import sys, {PACKAGE}.attention\nassert {module!r} not in sys.modules")


@pytest.mark.parametrize("module", [f"{PACKAGE}.attention", f"{PACKAGE}.attention.integer"])
def test_importing_the_operation_costs_no_more_than_torch(module: str) -> None:
    """Its compiler (torch._dynamo) takes as long as the rest of torch. Calling the operation loads nothing more."""
    in_fresh_process(
        f"""
import sys, torch
before = set(sys.modules)
import {module}
from {PACKAGE}.attention import inhibitor_attention
q = torch.ones(1, 1, 2, 2, requires_grad=True)
inhibitor_attention(q, q, q).sum().backward()
loaded = {{name for name in set(sys.modules) - before if name.split(".")[0] != "{PACKAGE}"}}
outside = {{name for name in loaded if name.split(".")[0] not in sys.stdlib_module_names}}
assert not outside, outside
"""
    )


def test_every_public_name_can_be_had() -> None:
    in_fresh_process(
        f"import {PACKAGE} as package\nfor name in package.__all__: assert getattr(package, name) is not None, name"
    )
