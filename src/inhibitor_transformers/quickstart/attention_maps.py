"""One sentence as a head of the student and the teacher's head see it."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import AutoModel

from ..distill.distillation import Distillation
from ..distill.pairing import EncoderPairing
from ..evaluation.similarity import rank_correlation
from ..models import InhibiDistilBertPreTrainedModel
from ..report import AttentionMaps

_SENTENCE = "The museum keeps its paintings in a cold room, because the paint would suffer in the sun."


@torch.no_grad()
def most_similar_maps(student: InhibiDistilBertPreTrainedModel, run: Distillation, teacher: str) -> AttentionMaps:
    """Those of the head where −Z and the teacher's attention rank the pairs of tokens most alike.

    teacher: folder or Hub id, loaded once more with the implementation that returns attention weights.
    """
    eager = AutoModel.from_pretrained(teacher, attn_implementation="eager").to(student.device)
    batch = run.data.preprocessor(_SENTENCE, return_tensors="pt").to(student.device)
    attention = eager(**batch, output_attentions=True).attentions
    ours = student.base_model(**batch, output_attentions=True).attentions
    assert isinstance(run.pairing, EncoderPairing)
    theirs = [attention[layer] for layer in run.pairing.layer_map.teacher_layers]

    def similarity(layer: int, head: int) -> float:
        return rank_correlation(-_flat(ours[layer][0, head]), _flat(theirs[layer][0, head]))

    heads = ((layer, head) for layer in range(len(theirs)) for head in range(student.config.n_heads))
    layer, head = max(heads, key=lambda at: similarity(*at))
    return AttentionMaps(
        tokens=run.data.preprocessor.convert_ids_to_tokens(batch["input_ids"][0]),
        layer=layer,
        head=head,
        inhibition=ours[layer][0, head].tolist(),
        attention=theirs[layer][0, head].tolist(),
    )


def _flat(scores: Tensor) -> Tensor:
    """Scores (N, N) of one head as (N·N,), on the CPU."""
    return scores.flatten().cpu()
