"""The documentation site: Sphinx with furo, built by `make docs` into build/site; any warning fails the build."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from sphinx.application import Sphinx

import inhibitor_transformers

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

project = "inhibitor-transformers"
release = inhibitor_transformers.__version__
extensions = ["myst_parser", "docstrings", "mathml"]
nitpicky = True  # a type in a signature that this site does not describe is an error, unless another package's
nitpick_ignore_regex = [
    (r"py:.*", r"(inhibitor_transformers\.hardware\.(gates|circuits|operands)\..*|Flags|Integers)"),  # parts inside
    ("py:class", r"(accelerate|collections|datasets|numpy|os|pathlib|torch|transformers)\..*"),
    # aliases and names that are imported for type checkers only stay as they are written
    (
        "py:class",
        r"Array|Dataset|Encoder|Path|Split|PreTrainedTokenizerBase|Tensor|.*\.TextT|.*\.report\..*|.*\.ConvertedConfig",
    ),
    ("py:class", r"dict\[str"),  # how autodoc cuts the type of a settings field in two
]

# The navigation, caption by caption; a page that is missing here, or that is named here and missing, is an error.
NAVIGATION = {
    "Start": ["tutorial", "example-report", "results"],
    "How to": [
        "how-to/convert",
        "how-to/report",
        "how-to/distill",
        "how-to/finetune",
        "how-to/own-data",
        "how-to/distributed",
        "how-to/quantize",
        "how-to/export",
        "how-to/deploy",
        "how-to/encrypted",
    ],
    "Reference": [
        "reference/cli",
        "reference/configuration",
        "reference/files",
        "reference/messages",
        "reference/architectures",
        "reference/compatibility",
        "api/index",
    ],
    "Explanation": [
        "explanation/mathematics",
        "explanation/recipe",
        "explanation/integers",
        "explanation/quantized-models",
        "explanation/hardware",
        "explanation/encrypted",
        "explanation/cpu-kernels",
        "explanation/gpu-kernels",
        "explanation/own-parts",
    ],
    "Project": ["project/contributing", "project/security", "project/changelog"],
}

# Markdown, as GitHub reads it: its anchors, its formulas.
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_inherit_docstrings = False  # what torch says of its own methods is in torch's documentation
add_module_names = False
python_maximum_signature_line_length = 90

html_theme = "furo"
html_title = project
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False
html_math_renderer = "mathml"


def _project_pages(app: Sphinx, page: str, source: list[str]) -> None:
    """Lets links to the repository's own documents lead to their pages here."""
    source[0] = re.sub(
        r"\]\((\.\./)+(CONTRIBUTING|SECURITY|CHANGELOG)\.md", lambda link: f"](/project/{link[2].lower()}.md", source[0]
    )


def _navigation(app: Sphinx, page: str, source: list[str]) -> None:
    """Ends the first page with the navigation, which GitHub would show as code."""
    if page == "index":
        for caption, pages in NAVIGATION.items():
            source[0] += "\n```{toctree}\n:hidden:\n:caption: " + "\n".join([caption, "", *pages]) + "\n```\n"


def setup(app: Sphinx) -> None:
    app.connect("source-read", _project_pages)
    app.connect("source-read", _navigation)
