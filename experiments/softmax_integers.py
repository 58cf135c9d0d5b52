"""What the dot-product head's integers cost the softmax teacher: the other side of experiments/integers.py.

python experiments/softmax_integers.py --bits 8 4

Attention of `minilm` as hardware/circuits/softmax_model.py computes it, linear layers in float: STS-B zero-shot, and
the mean cosine to the float teacher's embeddings of IMDB reviews of 128 tokens.
"""

from __future__ import annotations

from typing import Any

import common
import torch
from torch import Tensor
from transformers import AttentionInterface, AutoModel
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from inhibitor_transformers.cli.options import quiet, resolve_model
from inhibitor_transformers.deploy.quantize.texts import as_batches
from inhibitor_transformers.evaluation.similarity import agreement, sts_spearman
from inhibitor_transformers.hardware.operands import attention_calls
from inhibitor_transformers.hardware.softmax_attention import SoftmaxSteps, choose_steps, softmax_attention_integers
from inhibitor_transformers.models.pretrained import load_tokenizer
from inhibitor_transformers.report import Table, markdown_table
from inhibitor_transformers.tasks import load_task, load_texts

NAME = "softmax_integers"
CALIBRATION_TEXTS = 32


def quantize_attention(model: Any, batches: list[dict[str, Tensor]], bits: int) -> None:
    """Let `model` attend in integers, with steps chosen on `batches`."""
    steps: dict[int, SoftmaxSteps] = {}
    for layer, calls in enumerate(attention_calls(model, batches)):
        steps[layer] = choose_steps([(q, k, v, valid[:, None, None, :]) for q, k, v, valid in calls], bits)

    def attend(module: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, **_: Any) -> tuple[Tensor, None]:
        valid = torch.ones(1, 1, 1, k.shape[2], dtype=torch.bool) if mask is None else mask
        valid = valid.expand(q.shape[0], -1, q.shape[2], -1)
        return softmax_attention_integers(q, k, v, valid, steps[module.layer_idx]).transpose(1, 2), None

    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)


@torch.no_grad()
def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--bits", nargs="+", type=int, choices=(4, 8, 16), default=[8, 4])
    given = parser.parse_args()
    quiet(given.threads)
    source = resolve_model("minilm")
    tokenizer, exact = load_tokenizer(source), AutoModel.from_pretrained(source).eval()
    pairs = load_task("stsb", given.data).evaluation["validation"][:]
    reviews = load_texts([given.data / "imdb"], max_texts=1000, seed=0)
    texts = load_texts([given.data / "wikitext-2"], max_texts=CALIBRATION_TEXTS, seed=0)
    batches = as_batches(texts, tokenizer, max_length=128)
    rows = [["float", f"{100 * sts_spearman(exact, tokenizer, pairs, max_length=128):.2f}", "1.00000"]]
    for bits in given.bits:
        model = AutoModel.from_pretrained(source).eval()
        quantize_attention(model, batches, bits)
        near = agreement(model, exact, tokenizer, reviews, [128])[128]
        rows.append([str(bits), f"{100 * sts_spearman(model, tokenizer, pairs, max_length=128):.2f}", f"{near:.5f}"])
    print(markdown_table(Table("minilm with softmax in integers", ["bits", "STS-B", "cosine at 128"], rows)))


if __name__ == "__main__":
    main()
