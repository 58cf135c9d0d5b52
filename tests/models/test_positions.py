"""How long an input a model can read, by its configuration and in truth."""

from __future__ import annotations

import pytest
import torch

from inhibitor_transformers.models import InhibiDistilBertModel
from inhibitor_transformers.models.architectures import max_tokens, require_positions
from tests.distill.tiny import POSITIONS, bert, distilbert, roberta

MODELS = {
    "bert": bert,
    "distilbert": distilbert,
    "roberta": roberta,
    "inhibitor": lambda: InhibiDistilBertModel.from_teacher(bert()),
    "inhibitor of roberta": lambda: InhibiDistilBertModel.from_teacher(roberta()),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_limit_is_the_longest_input_that_works(name):
    model = MODELS[name]()
    limit = max_tokens(model.config)
    assert limit == POSITIONS
    with torch.no_grad():
        assert model(input_ids=torch.full((1, limit), 6)).last_hidden_state.isfinite().all()
        with pytest.raises((IndexError, RuntimeError, ValueError)):
            model(input_ids=torch.full((1, limit + 1), 6))


def test_no_limit():
    from transformers import T5Config

    assert max_tokens(T5Config()) is None
    require_positions(T5Config(), 10**6, "texts")


def test_kin_of_roberta_that_no_student_is_made_of():
    from transformers import XLMRobertaConfig

    assert max_tokens(XLMRobertaConfig(max_position_embeddings=POSITIONS + 2, pad_token_id=1)) == POSITIONS


def test_up_to_the_limit_is_fine():
    require_positions(bert().config, POSITIONS, "texts")
    with pytest.raises(ValueError, match=r"^texts: 161 tokens are more than this bert model can read \(160\)$"):
        require_positions(bert().config, POSITIONS + 1, "texts")
