"""Converted decoders with caches: what each gives is what one forward pass over the whole text gives."""

from __future__ import annotations

import copy
import functools
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache, StaticCache

from inhibitor_transformers import convert
from inhibitor_transformers.models.conversion.attention import ConvertedAttention
from tests.models.conversion.zoo import CONVERTED, DECODERS, SEQ2SEQ, example, padded, student, teacher

NEW = 12
GREEDY: dict[str, Any] = {
    "max_new_tokens": NEW,
    "min_new_tokens": NEW,
    "do_sample": False,
    "return_dict_in_generate": True,
    "output_logits": True,
}


@functools.cache
def prompt(name: str) -> dict[str, Tensor]:
    """Padded on the left, but for encoders."""
    if name in SEQ2SEQ:
        return {field: value for field, value in example(name).items() if not field.startswith("decoder_")}
    return padded(left=True)


def uncached(name: str, inputs: dict[str, Tensor], sequences: Tensor) -> Tensor:
    """Logits of the new tokens, (B, new, vocabulary), by one forward pass without a cache."""
    new = sequences.shape[1] - 1 if name in SEQ2SEQ else NEW
    if name in SEQ2SEQ:
        with torch.no_grad():
            return student(name)(**inputs, decoder_input_ids=sequences[:, :-1], use_cache=False).logits
    mask = torch.cat([inputs["attention_mask"], torch.ones(len(sequences), new - 1).long()], 1)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    given = {} if name == "OPT" else {"position_ids": positions}  # OPT counts by the mask itself
    with torch.no_grad():
        logits = student(name)(input_ids=sequences[:, :-1], attention_mask=mask, use_cache=False, **given).logits
    return logits[:, -new:]


def check(name: str, **options: Any) -> Tensor:
    inputs = prompt(name)
    found = student(name).generate(**inputs, **(GREEDY | options))
    logits = torch.stack(found.logits, 1)
    expected = uncached(name, inputs, found.sequences)[:, -logits.shape[1] :]
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5 * max(1.0, float(expected.abs().max())))
    return found.sequences


@pytest.mark.parametrize("cache", [None, "static"])
@pytest.mark.parametrize("name", [*DECODERS, *SEQ2SEQ])
def test_greedily(name: str, cache: str | None) -> None:
    """Texts of 21 tokens; the windows of Mistral and Gemma 3 are 4."""
    options = {} if cache is None else {"cache_implementation": cache, "disable_compile": True}
    assert torch.equal(check(name, **options), check(name, use_cache=False))


@pytest.mark.parametrize("name", ["Llama", "GPT2", "Mistral", "Gemma3", "Bart", "T5"])
def test_beams_and_samples(name: str) -> None:
    inputs = prompt(name)
    for options in ({"num_beams": 3}, {"do_sample": True, "top_k": 20}):
        settings = {"max_new_tokens": NEW, "min_new_tokens": NEW, **options}
        drawn = []
        for use_cache in (True, False):
            torch.manual_seed(5)
            drawn.append(student(name).generate(**inputs, **settings, use_cache=use_cache))
        assert torch.equal(*drawn), options


@pytest.mark.parametrize("name", DECODERS)
def test_prompts_of_a_batch_are_continued_as_alone(name: str) -> None:
    inputs = prompt(name)
    together = student(name).generate(**inputs, **GREEDY)
    for row, mask in enumerate(inputs["attention_mask"].bool()):
        alone = student(name).generate(input_ids=inputs["input_ids"][row, mask][None], **GREEDY)
        assert torch.equal(alone.sequences[0, -NEW:], together.sequences[row, -NEW:])
        for a, b in zip(alone.logits, together.logits, strict=True):
            torch.testing.assert_close(a[0], b[row], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["dynamic", "static"])
@pytest.mark.parametrize("name", DECODERS)
def test_pieces_of_a_text_onto_a_cache(name: str, kind: str) -> None:
    """Several tokens, then one, then several: as the whole text at once, with padding on the left and without."""
    model = student(name)
    for inputs in (padded(2, 13, left=True), {"input_ids": padded(2, 13)["input_ids"].clamp(min=5)}):
        mask = inputs.get("attention_mask", torch.ones(2, 13).long())
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        ids = inputs["input_ids"]
        given = {} if name == "OPT" else {"position_ids": positions}
        with torch.no_grad():
            whole = model(**inputs, **given, use_cache=False).logits
        cache = DynamicCache(config=model.config) if kind == "dynamic" else StaticCache(model.config, max_cache_len=20)
        pieces = []
        for start, stop in ((0, 5), (5, 6), (6, 11), (11, 13)):
            given = {} if name == "OPT" else {"position_ids": positions[:, start:stop]}
            padding = {"attention_mask": mask[:, :stop]} if "attention_mask" in inputs else {}
            with torch.no_grad():
                logits = model(ids[:, start:stop], **padding, **given, cache=cache, use_cache=True).logits
            pieces.append(logits)
        kept = mask.bool()
        torch.testing.assert_close(torch.cat(pieces, 1)[kept], whole[kept], rtol=1e-4, atol=1e-4)


def test_a_prefix_that_is_used_twice() -> None:
    model, prefix = student("Llama"), torch.arange(5, 12)[None]
    cache = DynamicCache(config=model.config)
    with torch.no_grad():
        model(prefix, cache=cache, use_cache=True)
    for end in (20, 40):
        ids = torch.cat([prefix, torch.tensor([[end, end + 1]])], 1)
        reused = model.generate(ids, cache=copy.deepcopy(cache), **GREEDY)
        anew = model.generate(ids, **GREEDY)
        assert torch.equal(reused.sequences, anew.sequences)


@pytest.mark.parametrize("padding", [False, True])
@pytest.mark.parametrize("name", DECODERS)
def test_no_mask_of_every_pair_is_made(name: str, padding: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Causality and padding need none; windows that are smaller than the text do."""
    seen: list[Tensor | None] = []
    forward = ConvertedAttention.forward

    def watching(self: Any, module: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, **options: Any) -> Any:
        seen.append(mask)
        return forward(self, module, q, k, v, mask, **options)

    monkeypatch.setattr(ConvertedAttention, "forward", watching)
    length = 4 if name in ("Mistral", "Gemma3") else 9
    inputs = padded(2, length, left=True) if padding else {"input_ids": padded(2, length)["input_ids"].clamp(min=5)}
    assert student(name).config.record.masks == "compact"
    with torch.no_grad():
        student(name)(**inputs)
    assert len(seen) == 2
    for mask in seen:
        assert mask is None if not padding else mask is not None and mask.shape == (2, length)


@pytest.mark.parametrize("example_inputs", [padded(2, 3), {"input_ids": torch.arange(5, 9)[None]}])
@pytest.mark.parametrize("name", ["Mistral", "Gemma3"])
def test_an_example_shorter_than_the_window_tells_as_much(name: str, example_inputs: dict[str, Tensor]) -> None:
    short = convert(teacher(name), example_inputs)
    usual = convert(teacher(name), example(name))
    with torch.no_grad():
        a, b = (model(**example(name)).logits for model in (short, usual))
    assert short.config.record.masks == "compact"
    torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", ["Llama", "Bart", "Bert"])
def test_an_example_of_one_token_tells_as_much(name: str) -> None:
    one = {field: value[:1, :1] for field, value in example(name).items()}
    model = convert(teacher(name), one)
    usual = convert(teacher(name), example(name))
    with torch.no_grad():
        a, b = (m(**example(name)).logits for m in (model, usual))
    torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", [name for name in CONVERTED if name in DECODERS])
def test_packed_sequences_do_not_see_each_other(name: str) -> None:
    """Of position_ids that start anew transformers makes masks of its own."""
    ids = torch.randint(5, 90, (1, 9))
    positions = torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3, 4]])
    if name == "OPT":
        pytest.skip("OPT's position_ids say nothing of packing")
    with torch.no_grad():
        packed = student(name)(ids, position_ids=positions, use_cache=False).logits
        alone = [student(name)(part, use_cache=False).logits for part in (ids[:, :4], ids[:, 4:])]
        plain = teacher(name)(ids, position_ids=positions, use_cache=False).logits
        parts = [teacher(name)(part, use_cache=False).logits for part in (ids[:, :4], ids[:, 4:])]
    if torch.allclose(plain, torch.cat(parts, 1), atol=1e-4):  # as the softmax model does
        torch.testing.assert_close(packed, torch.cat(alone, 1), rtol=1e-4, atol=1e-4)
    else:
        assert not torch.allclose(packed, torch.cat(alone, 1), atol=1e-4)


@pytest.mark.parametrize("value_center", ["mean", "none"])
def test_a_single_query_is_centered_as_the_others(value_center: str) -> None:
    """A decoder's values have no common mean, with a cache neither."""
    model = convert(teacher("Llama"), example("Llama"), value_center=value_center)
    ids = torch.randint(5, 90, (2, 7))
    with torch.no_grad():
        whole = model(input_ids=ids).logits[:, -1]
        cache = model(input_ids=ids[:, :-1], use_cache=True).past_key_values
        step = model(input_ids=ids[:, -1:], past_key_values=cache).logits[:, -1]
    torch.testing.assert_close(step, whole, rtol=1e-4, atol=1e-5)
