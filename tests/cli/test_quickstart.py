"""`inhibit quickstart` as its user runs it, with fewer steps."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoModel

from inhibitor_transformers.models import InhibiDistilBertModel

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def test_quickstart(inhibit, minilm_path, tmp_path):
    folder = tmp_path / "quickstart"
    done = inhibit("quickstart", "--output", folder, "--steps", "12", "--device", "cpu")
    assert done.status == 0, done.err
    assert "student 5 ← teacher 5" in done.out
    assert "memory, estimated: " in done.out
    assert f"student saved in {folder}" in done.out

    student = AutoModel.from_pretrained(folder)
    assert type(student) is InhibiDistilBertModel

    from sentence_transformers import SentenceTransformer

    vectors = SentenceTransformer(str(folder), device="cpu").encode(
        ["A cat sleeps.", "A cat is asleep.", "Shares fell."]
    )
    close, far = (float(torch.cosine_similarity(*torch.tensor(vectors[[0, i]]), dim=0)) for i in (1, 2))
    assert close > far

    markdown, html = ((folder / f"report.{kind}").read_text(encoding="utf-8") for kind in ("md", "html"))
    for stage in ("calibrate", "align attention"):
        assert stage in markdown
    assert "<html" in html
    assert "http://" not in html.replace("http://www.w3.org", "")  # one self-contained page
    log = json.loads((folder / "stages" / "2-align_attention" / "log.json").read_text())
    assert max(entry["step"] for entry in log) == 12
