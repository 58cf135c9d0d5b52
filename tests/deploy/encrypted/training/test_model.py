"""Trained models compute the integers that they hand over, whatever their attention."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from inhibitor_transformers.deploy.encrypted.levels import ValueLevels
from inhibitor_transformers.deploy.encrypted.training.attention import KINDS
from inhibitor_transformers.deploy.encrypted.training.model import Architecture, Models
from inhibitor_transformers.deploy.encrypted.training.projections import fan_in
from inhibitor_transformers.deploy.encrypted.training.recipe import Recipe, train_quantized, train_real
from inhibitor_transformers.deploy.encrypted.training.train import predict

MODELS, INPUTS, CLASSES = 2, 12, 3
VALUES = [ValueLevels(2, signed=False), ValueLevels(3), ValueLevels(7)]


def architecture(kind="inhibitor", tied=False, tokens=4, values=VALUES[1], **more) -> Architecture:
    settings = {"width": 4, "input_qmax": 3, "levels": 3} | more
    return Architecture(kind, tied, tokens, INPUTS, classes=CLASSES, value_levels=values, **settings)


def random_levels(*shape: int, qmax: int = 3) -> torch.Tensor:
    return torch.randint(qmax + 1, shape, dtype=torch.float64)


def quantized_models(made: Architecture, steps: int = 3, vocabulary: int = 0) -> Models:
    """A few steps on random data, so that nothing is at its start."""

    def batch():
        x = random_levels(MODELS, 16, made.tokens, INPUTS, qmax=made.input_qmax)
        if vocabulary:
            x = torch.randint(-1, vocabulary, (MODELS, 16, made.tokens))
        return x, torch.randint(CLASSES, (MODELS, 16))

    recipe = Recipe(restarts=MODELS, real_steps=steps, steps=steps, learning_rate=0.03, quantized_learning_rate=0.03)
    return train_quantized(train_real(Models(made, MODELS, vocabulary), batch, recipe), batch, recipe)


def require_equal(models: Models, x: torch.Tensor) -> None:
    with torch.no_grad():
        logits = models(x.expand(MODELS, *x.shape))[0]
    for model in range(MODELS):
        wanted = predict(models.classifier(model), x.numpy().astype(np.int64))
        assert np.array_equal(logits[model].numpy(), wanted)
        assert len(np.unique(wanted)) > 3  # of numbers that are all the same, equality says nothing


@pytest.mark.parametrize("values", VALUES, ids=str)
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("kind", KINDS)
def test_evaluation_is_the_integers_bit_for_bit(kind, tied, values):
    require_equal(quantized_models(architecture(kind, tied, values=values)), random_levels(64, 4, INPUTS))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "more",
    [{"tokens": 8}, {"pooled": True}, {"head_qmax": 2}, {"input_qmax": 1}, {"levels": 4, "width": 3}],
    ids=str,
)
def test_other_architectures_are_the_integers_too(kind, more):
    made = architecture(kind, **more)
    require_equal(quantized_models(made), random_levels(64, made.tokens, INPUTS, qmax=made.input_qmax))


@pytest.mark.parametrize("input_qmax", [1, 2, 3])
def test_fan_in_is_bounded(input_qmax):
    classifier = quantized_models(architecture(input_qmax=input_qmax)).classifier(0)
    for projection in (classifier.query, classifier.key, classifier.value):
        for sign in (1, -1):
            assert ((projection.weight == sign).sum(-2) <= fan_in(input_qmax)).all()
        assert projection.weight.any()
    assert np.abs(classifier.head).max() <= 1


def test_tokens_have_weights_of_their_own_unless_pooled():
    assert quantized_models(architecture()).classifier(0).query.weight.shape == (4, INPUTS, 4)
    pooled = quantized_models(architecture(pooled=True)).classifier(0)
    assert pooled.query.weight.shape == (INPUTS, 4)
    assert all(np.array_equal(pooled.head[0], head) for head in pooled.head)


@pytest.mark.parametrize("values", VALUES, ids=str)
def test_a_padding_token_is_a_value_of_zero(values):
    """As a key it then adds nothing: sums of the words are those of a sentence without it."""
    classifier = quantized_models(architecture(pooled=True, values=values)).classifier(0)
    assert (classifier.value.tables[:, -classifier.value.first] == 0).all()
    assert (classifier.value.tables != 0).any()


@pytest.mark.parametrize("values", VALUES, ids=str)
def test_padding_keys_change_nothing(values):
    made = architecture(pooled=True, values=values)
    models = quantized_models(made)
    x = random_levels(MODELS, 8, 3, INPUTS)
    padded = torch.cat([x, torch.zeros(MODELS, 8, 1, INPUTS, dtype=torch.float64)], 2)
    with torch.no_grad():
        assert torch.equal(models(padded)[1][:, :, :3], models(x)[1])


def test_words_are_looked_up_as_clients_do():
    models = quantized_models(architecture(pooled=True), vocabulary=9)
    numbers = torch.randint(-1, 9, (32, 4))
    with torch.no_grad():
        logits = models(numbers.expand(MODELS, 32, 4))[0]
    for model in range(MODELS):
        levels = models.word_levels(model)
        assert levels.shape == (9, INPUTS)
        x = np.concatenate([levels, np.zeros((1, INPUTS), np.int64)])[numbers.numpy()]
        assert np.array_equal(logits[model].numpy(), predict(models.classifier(model), x))
    with pytest.raises(ValueError, match="take levels, not words"):
        quantized_models(architecture()).word_levels(0)


def test_quantized_training_starts_near_the_real_model_and_keeps_it():
    made = architecture(tied=True)

    def batch():
        return random_levels(MODELS, 64, 4, INPUTS), torch.randint(CLASSES, (MODELS, 64))

    recipe = Recipe(restarts=MODELS, real_steps=2, steps=30, label_smoothing=0)
    real = train_real(Models(made, MODELS), batch, recipe)
    before = {name: value.clone() for name, value in real.state_dict().items()}
    quantized = train_quantized(real, batch, recipe)
    assert all(torch.equal(value, before[name]) for name, value in real.state_dict().items())
    x = batch()[0]
    with torch.no_grad():
        wanted, sums = real(x)[1], quantized(x)[1]
    correlation = torch.corrcoef(torch.stack([wanted.flatten(), sums.flatten()]))[0, 1]
    assert correlation > 0.6
