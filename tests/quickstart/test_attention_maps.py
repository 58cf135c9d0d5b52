"""The head that is shown, and its two maps."""

from __future__ import annotations

import torch
from transformers import AutoModel, AutoTokenizer

from inhibitor_transformers.evaluation.similarity import rank_correlation
from inhibitor_transformers.quickstart.attention_maps import _SENTENCE


def test_the_maps_are_those_of_the_most_similar_head(quickstart, teacher_path):
    maps = quickstart.report.maps
    tokenizer = AutoTokenizer.from_pretrained(teacher_path)
    batch = tokenizer(_SENTENCE, return_tensors="pt")
    student = AutoModel.from_pretrained(quickstart.folder)
    teacher = AutoModel.from_pretrained(teacher_path, attn_implementation="eager")
    with torch.no_grad():
        ours = torch.stack(student(**batch, output_attentions=True).attentions)[:, 0]  # (layers, heads, N, N)
        theirs = torch.stack(teacher(**batch, output_attentions=True).attentions)[:, 0]
    similarity = {
        (layer, head): rank_correlation(-ours[layer, head].flatten(), theirs[layer, head].flatten())
        for layer in range(ours.shape[0])
        for head in range(ours.shape[1])
    }
    assert similarity[maps.layer, maps.head] == max(similarity.values())
    torch.testing.assert_close(torch.tensor(maps.inhibition), ours[maps.layer, maps.head])
    torch.testing.assert_close(torch.tensor(maps.attention), theirs[maps.layer, maps.head])
    assert len(maps.tokens) == ours.shape[-1]
