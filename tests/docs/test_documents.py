"""The documents: form, words, links, and Python that runs."""

from __future__ import annotations

import ast
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import GPT2Config, GPT2LMHeadModel

from tests.conftest import REPOSITORY
from tests.docs.pages import CONFIGS, DOCS, PAGES, name, passages

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
    r"\bcommit [0-9a-f]{7,}|scripts? (?:(?:that )?(?:is|are) )?not kept": "nothing: a reader cannot run it",
}


# Form and words


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_width(page: Path) -> None:
    text = [p for p in passages(page.read_text("utf-8")) if p.kind == "text"]
    wide = [p.number for p in text if len(without_links(p.line)) > WIDTH]
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


def test_the_readme_s_python_runs(minilm_path: Path, tmp_path: Path) -> None:
    encoder, any_model = snippets(REPOSITORY / "README.md")
    names: dict[str, Any] = {}
    exec(encoder.replace("sentence-transformers/all-MiniLM-L6-v2", str(minilm_path)), names)
    GPT2LMHeadModel(GPT2Config(n_layer=2, n_head=2, n_embd=32)).save_pretrained(tmp_path)
    exec(any_model.replace("openai-community/gpt2", str(tmp_path)), names)
    assert "2 of 2 attention modules" in str(names["student"].inhibitor_report())
    assert names["output"].shape == (2, 12, 128, 64)
    assert names["hidden"].shape[2:] == (384,)
