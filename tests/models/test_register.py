"""Saved models load in a fresh process that has done nothing but import the package, in whatever order."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.models.tiny import AUTO_CLASSES, CLASSES, inputs_for, outputs_of, save_tokenizer, tiny_student

FIRST = """
import sys, inhibitor_transformers
watches = lambda: [f for f in sys.meta_path if type(f).__module__.startswith("inhibitor_transformers")]
assert len(watches()) == 1 and "transformers" not in sys.modules
load_all()
# The import hook must be invisible afterwards.
from importlib.machinery import SourceFileLoader
assert not watches()
for name in ("models.auto.modeling_auto", "models.auto.configuration_auto", "modeling_utils"):
    module = sys.modules["transformers." + name]
    assert type(module.__loader__) is type(module.__spec__.loader) is SourceFileLoader, name
"""
AFTERWARDS = """
from transformers import AutoModel
import inhibitor_transformers
load_all()
"""
BY_NAME = """
from inhibitor_transformers import InhibiDistilBertModel
from transformers import AutoModel
assert type(AutoModel.from_pretrained(folder + "/Model")) is InhibiDistilBertModel
load_all()
"""
AFTER_SENTENCES = """
import sentence_transformers
import inhibitor_transformers
load_all()
sentence_transformers.SentenceTransformer(folder + "/Model").encode("the old cat")
"""
BEFORE_SENTENCES = """
import transformers  # which loads nothing of itself yet
import inhibitor_transformers
from sentence_transformers import SentenceTransformer
SentenceTransformer(folder + "/Model").encode("the old cat")
load_all()
"""

# Loads every model in the folder by its Auto class and compares its outputs with those saved beside it, to the bit.
LOAD_ALL = f"""
import sys
_, folder, threads = sys.argv
def load_all():
    import torch, transformers
    torch.set_num_threads(int(threads))
    for name, auto in {AUTO_CLASSES}.items():
        model = getattr(transformers, auto).from_pretrained(folder + "/" + name)
        assert type(model).__name__ == "InhibiDistilBert" + name, type(model)
        assert model.config._attn_implementation == "inhibitor"
        inputs, expected = torch.load(folder + "/" + name + "/expected.pt")
        with torch.no_grad():
            outputs = model(**inputs)
        for key, value in expected.items():
            assert torch.equal(outputs[key], value), (name, key, (outputs[key] - value).abs().max())
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("students")
    for name in CLASSES:
        model, inputs = tiny_student(name, type_vocab_size=2), inputs_for(name)
        model.save_pretrained(folder / name)
        torch.save((inputs, outputs_of(model, **inputs)), folder / name / "expected.pt")
    save_tokenizer(folder / "Model")
    return folder


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    "code",
    [
        pytest.param(FIRST, id="before transformers"),
        pytest.param(AFTERWARDS, id="after transformers"),
        pytest.param(BY_NAME, id="by a model's name"),
        pytest.param(AFTER_SENTENCES, id="after sentence_transformers"),
        pytest.param(BEFORE_SENTENCES, id="before sentence_transformers"),
    ],
)
def test_loads_to_the_same_bits_in_a_fresh_process(code: str, folder: Path) -> None:
    command = [sys.executable, "-c", LOAD_ALL + code, str(folder), str(torch.get_num_threads())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
