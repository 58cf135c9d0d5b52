"""The graph of one head is the integer specification, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from inhibitor_transformers.attention.call import MaskedTensors
from inhibitor_transformers.attention.checks import check_masked
from inhibitor_transformers.attention.integer import QuantParams, reference
from inhibitor_transformers.deploy.encrypted.attention import InhibitorScores
from inhibitor_transformers.deploy.encrypted.plan import EncryptedPlan
from inhibitor_transformers.deploy.encrypted.specification import specification_graph

TOKENS, FEATURES = 3, 2


def reference_sums(x: np.ndarray, bits: int, scores: InhibitorScores, *, signed: bool) -> np.ndarray:
    """`attention/integer/reference.py` on levels: steps of 1 and offsets of 0 quantize them to themselves."""
    one = torch.ones(1)
    whole = {name: torch.tensor([getattr(scores, name)], dtype=torch.int32) for name in ("sign", "delta", "shift")}
    qparams = QuantParams(
        bits=bits,
        offset=torch.zeros(1, FEATURES),
        source=torch.zeros(1, 0, dtype=torch.int32),
        inverse_step=one,
        value_inverse_step=one,
        scale=one,
        length_exponent=one,
        **whole,
    )
    q, k, v = torch.from_numpy(x).float().view(len(x), 1, 3, TOKENS, FEATURES).unbind(2)
    masks = {"key_padding_mask": None, "attn_mask": None, "is_causal": False}
    center = "mean" if scores.centered else "none"
    call = MaskedTensors(**check_masked(q, k, v, **masks, signed=signed, center=center))
    return reference.integer_sums(call, qparams)[:, 0].numpy()


@pytest.mark.parametrize("bits", [3, 4, 5])
@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
@pytest.mark.parametrize("centered", [True, False], ids=["centered", "uncentered"])
@pytest.mark.parametrize(("delta", "shift", "sign"), [(-2, 0, 1), (5, 2, -1), (0, -1, 1), (1, 1, 0)])
def test_sums_are_those_of_the_reference(bits, signed, centered, delta, shift, sign):
    scores = InhibitorScores(delta, shift, sign, centered)
    plan = EncryptedPlan(specification_graph(bits, TOKENS, FEATURES, scores, signed=signed))
    inputs = np.random.default_rng(bits).integers(plan.input.low, plan.input.high + 1, (1000, 9, FEATURES))
    ours = plan.evaluate(inputs)
    assert (ours == reference_sums(inputs, bits, scores, signed=signed)).all()
    assert len(np.unique(ours)) > 3


def test_what_no_table_can_read_is_refused_by_name():
    scores = InhibitorScores(0, 0, centered=True)
    with pytest.raises(ValueError, match=r"^M: its table would need 10 bits for inputs in \[0, 992\], more than 8"):
        specification_graph(5, 8, 4, scores, signed=True)
