"""The commands that the documents show exist, with the flags, scripts, configurations and targets that they name."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.main import get_command

from inhibitor_transformers.cli.app import app
from tests.conftest import REPOSITORY
from tests.docs.pages import CONFIGS, PAGES, Passage, name, passages

_CLI = get_command(app)
_USAGE_ERROR = typer.BadParameter.__base__  # click's, or that of the click inside typer
_SHELL = {"bash", "sh", "shell", "console", "code"}
_SCRIPT = re.compile(r"(benchmarks|experiments|examples)/\w+\.py")


def commands(page: Path) -> Iterator[tuple[int, list[str]]]:
    """(number of the line, words) of the commands in a page's code blocks, or in a configuration's first comment."""
    text = page.read_text("utf-8")
    if page.suffix == ".yaml":
        shown = [Passage(n, line[2:], "code") for n, line in enumerate(text.splitlines(), 1) if line.startswith("# ")]
        shown = [p for p in shown if p.line.startswith("inhibit ")]
    else:
        shown = [p for p in passages(text) if p.kind in _SHELL and "```" not in p.line]
    whole, begun = "", 0
    for p in shown:
        begun = begun if whole else p.number
        whole += p.line.strip().removesuffix("\\")
        if not p.line.endswith("\\"):
            if re.match(r"(inhibit|python|make|torchrun) ", whole):
                yield begun, shlex.split(whole, comments=True)
            whole = ""


def inline_commands(page: Path) -> Iterator[list[str]]:
    """Those that stand in a sentence, whole or in part."""
    if page.suffix == ".md":
        prose = "\n".join(p.line for p in passages(page.read_text("utf-8")) if p.kind in ("text", "table"))
        for span in re.findall(r"`((?:inhibit|python|make) [^`]+)`", prose):
            yield shlex.split(span)


def fault(words: list[str], *, whole: bool = True) -> str | None:
    """What is wrong with a command: a sub-command, flag, script, configuration or target that is not there."""
    if "inhibit" in words:
        return fault_of_inhibit(words[words.index("inhibit") + 1 :], whole=whole)
    if words[0] == "make":
        targets = set(re.findall(r"^([\w-]+):", (REPOSITORY / "Makefile").read_text("utf-8"), re.M))
        return next((f"make has no {w}" for w in words[1:] if "=" not in w and w not in targets), None)
    if words[:3] == ["python", "-m", "pytest"]:
        paths = [w for w in words if w.startswith("tests/")]
        return next((f"{path} is not there" for path in paths if not (REPOSITORY / path).exists()), None)
    if len(words) > 1 and _SCRIPT.fullmatch(words[1]):
        return fault_of_script(REPOSITORY / words[1], words[2:])
    return None


def fault_of_inhibit(words: list[str], *, whole: bool, group: Any = _CLI, name: str = "inhibit") -> str | None:
    sub, given = words[0], words[1:]
    if sub.isupper() or sub.startswith(("-", "…")):
        return None
    if sub not in group.commands:
        return f"{name} has no {sub}"
    name, command = f"{name} {sub}", group.commands[sub]
    if hasattr(command, "commands") and given:
        return fault_of_inhibit(given, whole=whole, group=command, name=name)
    for word in given:
        if word.startswith("configs/") and not (REPOSITORY / word).is_file():
            return f"{word} is not there"
    known = {option for p in command.params for option in (*p.opts, *p.secondary_opts)} | {"--help"}
    flags = [word.partition("=")[0] for word in given if re.match(r"--?[a-z]", word)]
    if unknown := [flag for flag in flags if flag not in known]:
        return f"{name} has no {unknown}"
    if whole and "…" not in given:
        try:
            command.make_context(sub, list(given))
        except _USAGE_ERROR as error:
            return f"{name}: {error}"
    return None


def fault_of_script(script: Path, words: list[str]) -> str | None:
    if not script.is_file():
        return f"{name(script)} is not there"
    known = flags_of(script)
    unknown = [word for word in words if word.startswith("--") and word.partition("=")[0] not in known]
    return f"{name(script)} has no {unknown}" if unknown else None


def flags_of(script: Path) -> set[str]:
    """Of the script, and of the modules beside it that it imports."""
    tree, known = ast.parse(script.read_text("utf-8")), {"--help"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "add_argument":
            named = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
            known |= {flag for flag in named if flag.startswith("--")}
            if "BooleanOptionalAction" in ast.unparse(node):
                known |= {flag.replace("--", "--no-", 1) for flag in named if flag.startswith("--")}
        modules = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules = [node.module]
        for module in modules:
            beside = script.with_name(f"{module}.py")
            if beside.is_file() and beside != script:
                known |= flags_of(beside)
    return known


@pytest.mark.parametrize("page", [*PAGES, *CONFIGS], ids=name)
def test_commands(page: Path) -> None:
    faults = [f"line {number}: {wrong}" for number, words in commands(page) if (wrong := fault(words))]
    faults += [wrong for words in inline_commands(page) if (wrong := fault(words, whole=False))]
    assert not faults


def test_the_documents_show_commands() -> None:
    shown = [words for page in PAGES for _, words in commands(page)]
    assert {words[1] for words in shown if words[0] == "inhibit"} == set(_CLI.commands) - {"env"}
    assert len([words for words in shown if words[0] == "python" and _SCRIPT.fullmatch(words[1])]) > 10


@pytest.mark.parametrize(
    ("command", "wrong"),
    [
        ("inhibit destill configs/minilm.yaml --output runs/x", "inhibit has no destill"),
        ("inhibit distill configs/minilm.yaml --output runs/x --steps 3", r"inhibit distill has no \['--steps'\]"),
        ("inhibit distill configs/nowhere.yaml --output runs/x", "configs/nowhere.yaml is not there"),
        ("inhibit distill configs/minilm.yaml", "inhibit distill: .*output"),
        ("inhibit encrypted plot x", "inhibit encrypted has no plot"),
        ("inhibit encrypted serve x --host 0.0.0.0", r"inhibit encrypted serve has no \['--host'\]"),
        ("inhibit encrypted compile x", "inhibit encrypted compile: .*client"),
        ("inhibit quickstart --steps many", "inhibit quickstart: .*integer"),
        ("torchrun --no-python inhibit distill configs/minilm.yaml -o x --layer all", r"inhibit distill has no"),
        ("python benchmarks/nowhere.py", "benchmarks/nowhere.py is not there"),
        ("python benchmarks/attention.py --thread 1", r"benchmarks/attention.py has no \['--thread'\]"),
        ("python experiments/ablations.py --datum x recipe", r"experiments/ablations.py has no \['--datum'\]"),
        ("python -m pytest -q tests/nowhere", "tests/nowhere is not there"),
        ("make everything", "make has no everything"),
    ],
)
def test_wrong_commands_are_seen(command: str, wrong: str) -> None:
    assert re.match(wrong, str(fault(shlex.split(command))))


@pytest.mark.parametrize(
    "command",
    [
        "inhibit distill configs/minilm.yaml -o runs/x --set align_hidden.max_steps=3",
        "inhibit encrypted ask client --input x.npy",
        "inhibit encrypted …",
        "python experiments/ablations.py --data DATA --no-bf16 recipe",
        "python benchmarks/attention.py --device cuda --output attention.md",
        "make demo TORCH=torch TORCH_INDEX=",
    ],
)
def test_right_commands_pass(command: str) -> None:
    assert fault(shlex.split(command)) is None
