"""The documents: form, words, links, and commands that exist with the flags that they show."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import pytest
import typer
import yaml
from typer.main import get_command

from inhibitor_transformers.cli.app import app
from tests.conftest import REPOSITORY

DOCS = REPOSITORY / "docs"
PAGES = [
    *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted(page for page in DOCS.rglob("*.md") if not page.relative_to(DOCS).parts[0].startswith("_")),
]
CONFIGS = sorted((REPOSITORY / "configs").rglob("*.yaml"))
WIDTH = 120

BRITISH = (
    r"\w*(?:artefact|behaviour|cancelled|catalogue|centred?\b|centring|colour|favour|fibre|grey\b|honour|judgement|"
    r"labelled|labelling|licence|metres?\b|modelled|modelling|neighbour|signalled|totalled|travelled)\w*"
)
BRITISH_ISE = (
    r"\w*(?:analys|capitalis|emphasis|equalis|finalis|generalis|initialis|linearis|materialis|maximis|memoris|minimis|"
    r"normalis|optimis|parametris|penalis|quantis|randomis|realis|recognis|regularis|serialis|specialis|standardis|"
    r"summaris|synchronis|tokenis|utilis|vectoris|visualis)(?:e|ed|er|es|ing|ation|ations|able)\b"
)
RETIRED = {
    r"\bcontexts?\b": "attention output",
    r"\b(?:a|the|its|softmax) control\b|\bcontrol, distilled|runs/control\b": "baseline",
    r"\balign_contexts\b": "align_attention",
    r"--start\b|\bstart:": "--init-from, init_from",
    r"--dot-product\b|\bdot_product_student\b|[Dd]ot-product (?:student|model)": "--softmax, softmax_student",
    r"\b\w*_share\b": "…_fraction",
    r"\bfirst_token_weight\b|\btext_weight\b": "cls_weight, pooled_weight",
    r"\bfixed_scalars\b": "frozen_scalars",
    r"\blength_parts\b": "length_buckets",
    r"\bInteger(?:Heads|Inhibitor)\b": "QuantParams, QuantizedScalars",
    r"\b(?:plan_layers|LayerPlan|TrainedArguments)\b": "map_layers, LayerMap, TrainerArguments",
    r"[Ww]here we lose|treated alike|to the bit\b|earned (?:a|its) place": "the words of CONTRIBUTING",
    r"\bcommit [0-9a-f]{7,}|scripts? (?:(?:that )?(?:is|are) )?not kept|earlier-students": "nothing: a reader cannot run it",
}


class Passage(NamedTuple):
    """A line of a page and what it is: "text", "table", "math", "code" or the language of a fenced block."""

    number: int
    line: str
    kind: str


def passages(text: str) -> Iterator[Passage]:
    fence, formula = None, False
    for number, line in enumerate(text.splitlines(), 1):
        within, formula = formula, formula ^ (fence is None and line.count("$$") % 2 == 1)
        if mark := re.match(r"\s*```\s*([\w-]*)", line):
            fence = (mark[1] or "code") if fence is None else None
            yield Passage(number, line, "code")
        elif fence is not None:
            yield Passage(number, line, fence)
        elif within or formula or line.startswith("$$"):
            yield Passage(number, line, "math")
        elif line.startswith("    "):
            yield Passage(number, line, "code")
        else:
            yield Passage(number, line, "table" if line.startswith("|") else "text")


def name(page: Path) -> str:
    return str(page.relative_to(REPOSITORY))


# Form and words


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_width(page: Path) -> None:
    wide = [
        p.number for p in passages(page.read_text("utf-8")) if p.kind == "text" and len(without_links(p.line)) > WIDTH
    ]
    assert not wide, f"lines {wide} have more than {WIDTH} characters"


def without_links(line: str) -> str:
    return re.sub(r"\]\([^)]*\)", "]", line)


@pytest.mark.parametrize("page", [*PAGES, *CONFIGS], ids=name)
def test_words(page: Path) -> None:
    text = re.sub(r"https?://\S+", "", page.read_text("utf-8"))
    assert not faults_of_words(text)


def faults_of_words(text: str) -> list[str]:
    faults = [f"{found[0]}: American spelling" for p in (BRITISH, BRITISH_ISE) for found in re.finditer(p, text, re.I)]
    for pattern, instead in RETIRED.items():
        faults += [f"{found[0]}: write {instead}" for found in re.finditer(pattern, text)]
    return faults


@pytest.mark.parametrize(
    "text",
    [
        "quantised",
        "Initialisation",
        "the centre",
        "behaviours",
        "modelling",
        "its contexts",
        "the control",
        "--start x",
    ],
)
def test_words_are_seen(text: str) -> None:
    assert faults_of_words(text)


@pytest.mark.parametrize("text", ["quantized", "control_flow", "otherwise", "rise", "center", "restart", "precise"])
def test_other_words_are_left_alone(text: str) -> None:
    assert not faults_of_words(text)


@pytest.mark.parametrize("config", CONFIGS, ids=name)
def test_configurations(config: Path) -> None:
    text = config.read_text("utf-8")
    assert max(map(len, text.splitlines())) <= WIDTH
    settings = yaml.safe_load(text)
    models = [settings.get("teacher", ""), *map(str, settings.get("text", []))]
    assert not [source for source in models if source.startswith((".", "/", "~"))], "a stranger does not have it"


# Links


def anchors(page: Path) -> set[str]:
    """Of a page's headings, as GitHub makes them."""
    headings = [
        p.line.lstrip("#") for p in passages(page.read_text("utf-8")) if p.kind == "text" and p.line.startswith("#")
    ]
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower() for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}


def links(page: Path) -> list[str]:
    lines = "\n".join(p.line for p in passages(page.read_text("utf-8")) if p.kind in ("text", "table"))
    return re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", lines))


def broken(page: Path, link: str) -> str | None:
    if re.match(r"\w+:", link):
        return None
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    if not target.exists():
        return f"{link}: no such file"
    if anchor and (target.suffix != ".md" or anchor not in anchors(target)):
        return f"{link}: no such heading"
    return None


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links(page: Path) -> None:
    assert not [fault for link in links(page) if (fault := broken(page, link))]


def test_broken_links_are_seen() -> None:
    page = DOCS / "index.md"
    assert broken(page, "tutorial.md") is None
    assert broken(page, "nowhere.md") == "nowhere.md: no such file"
    assert broken(page, "results.md#data") is None
    assert broken(page, "results.md#nowhere") == "results.md#nowhere: no such heading"


def test_code_names_pages_that_exist() -> None:
    files = [
        f for folder in ("src", "csrc", "tests", "experiments", "findings") for f in (REPOSITORY / folder).rglob("*")
    ]
    files = [f for f in files if f.suffix in {".py", ".h", ".cpp", ".sh"} and f != Path(__file__)]
    missing = []
    for file in [*files, REPOSITORY / "pyproject.toml", *CONFIGS]:
        for page in re.findall(r"\bdocs/[\w/-]+\.(?:md|svg|png)\b", file.read_text("utf-8")):
            if not (REPOSITORY / page).exists():
                missing.append(f"{name(file)}: {page}")
    assert not missing


# Commands

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


def fault_of_inhibit(words: list[str], *, whole: bool) -> str | None:
    sub, given = words[0], words[1:]
    if sub.isupper() or sub.startswith("-"):
        return None
    if sub not in _CLI.commands:
        return f"inhibit has no {sub}"
    for word in given:
        if word.startswith("configs/") and not (REPOSITORY / word).is_file():
            return f"{word} is not there"
    known = {option for p in _CLI.commands[sub].params for option in (*p.opts, *p.secondary_opts)} | {"--help"}
    flags = [word.partition("=")[0] for word in given if re.match(r"--?[a-z]", word)]
    if unknown := [flag for flag in flags if flag not in known]:
        return f"inhibit {sub} has no {unknown}"
    if whole and "…" not in given:
        try:
            _CLI.commands[sub].make_context(sub, list(given))
        except _USAGE_ERROR as error:
            return f"inhibit {sub}: {error}"
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
        "python experiments/ablations.py --data DATA --no-bf16 recipe",
        "python benchmarks/attention.py --device cuda --output attention.md",
        "make demo TORCH=torch TORCH_INDEX=",
    ],
)
def test_right_commands_pass(command: str) -> None:
    assert fault(shlex.split(command)) is None


# Python


def snippets(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)


@pytest.mark.parametrize("page", [page for page in PAGES if snippets(page)], ids=name)
def test_python_imports_what_there_is(page: Path) -> None:
    for snippet in snippets(page):
        for node in ast.walk(ast.parse(snippet)):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("inhibitor_transformers"):
                module = import_module(str(node.module))
                assert not [alias.name for alias in node.names if not hasattr(module, alias.name)]


def test_the_readme_s_python_runs(minilm_path: Path) -> None:
    (snippet,) = snippets(REPOSITORY / "README.md")
    names: dict[str, object] = {}
    exec(snippet.replace("sentence-transformers/all-MiniLM-L6-v2", str(minilm_path)), names)
    output, hidden = names["output"], names["hidden"]
    assert tuple(getattr(output, "shape")) == (2, 12, 128, 64)
    assert tuple(getattr(hidden, "shape"))[2:] == (384,)
