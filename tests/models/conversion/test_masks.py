"""Masks and biases in all the forms in which models give them, and examples that show only a part of a model."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForImageTextToText
from transformers.masking_utils import bidirectional_mask_function, causal_mask_function

from inhibitor_transformers import convert
from inhibitor_transformers.models.conversion.masks import compact_mask, explicit_mask, read_masks
from tests.models.conversion.zoo import (
    ARCHITECTURES,
    CONVERTED,
    DECODERS,
    equal,
    example,
    inhibitors,
    moved,
    padded,
    run,
    student,
    teacher,
)

B, N, H = 2, 5, 4
PADDING = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]).bool()
QUERY = torch.zeros(B, H, N, 3)


def read(
    mask: Tensor | None, *, is_causal: bool | None = None, bias: Tensor | None = None, query: Tensor = QUERY
) -> Any:
    return read_masks(SimpleNamespace(is_causal=False), query, mask, is_causal, bias)


def without_padding(inputs: dict[str, Any]) -> dict[str, Any]:
    """The same inputs as if nothing were padded, and no mask at all."""
    ids = {name: value.clamp(min=5) for name, value in inputs.items() if name.endswith("input_ids")}
    return {name: value for name, value in inputs.items() if "attention_mask" not in name} | ids


@pytest.mark.parametrize(
    "name", [name for name in CONVERTED if "attention_mask" in ARCHITECTURES[name].inputs() and name != "Llava"]
)
def test_an_example_without_padding_tells_as_much(name: str) -> None:
    a = convert(teacher(name), without_padding(example(name)))
    b = convert(teacher(name), example(name))
    assert [s.name for s in a.config.record.sites] == [s.name for s in b.config.record.sites]
    for key, tensor in run(b, **example(name)).items():
        torch.testing.assert_close(run(a, **example(name))[key], tensor, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", CONVERTED)
def test_half_precision_is_no_reason_to_refuse(name: str, dtype: torch.dtype) -> None:
    inputs = {field: value.to(dtype) if value.is_floating_point() else value for field, value in example(name).items()}
    model = copy.deepcopy(teacher(name)).to(dtype)
    try:
        with torch.no_grad():
            model(**inputs)
    except RuntimeError as error:
        pytest.skip(f"the softmax model does not run: {error}")
    converted = convert(model, inputs)
    assert len(inhibitors(converted)) == len(inhibitors(student(name)))


@pytest.mark.parametrize("kind", ["bool", "float", "one for all heads"])
@pytest.mark.parametrize("name", ["Bert", "Llama", "GPT2", "OPT", "Qwen2"])
def test_masks_of_every_pair_that_a_user_gives(name: str, kind: str) -> None:
    ids, mask = padded(2, 7).values()
    pairs = mask.bool()[:, None, None, :].expand(2, 1, 7, 7)
    if name in DECODERS:
        pairs = pairs & torch.ones(7, 7).bool().tril()
    given = pairs if kind == "bool" else torch.zeros(2, 1, 7, 7).masked_fill(~pairs, torch.finfo(torch.float32).min)
    given = given.expand(2, 4, 7, 7) if kind == "one for all heads" else given
    positions = {} if name in ("Bert", "OPT") else {"position_ids": torch.arange(7).expand(2, 7)}
    try:
        theirs = run(teacher(name), input_ids=ids, attention_mask=given, **positions)["logits"]
    except (ValueError, RuntimeError, IndexError):
        pytest.skip("the softmax model takes no such mask")
    expected = run(student(name), input_ids=ids, attention_mask=mask, **positions)["logits"]
    found = run(student(name), input_ids=ids, attention_mask=given, **positions)["logits"]
    kept = mask.bool()
    softmax = run(teacher(name), input_ids=ids, attention_mask=mask, **positions)["logits"]
    if torch.allclose(theirs[kept], softmax[kept], rtol=1e-4, atol=1e-4):
        torch.testing.assert_close(found[kept], expected[kept], rtol=1e-4, atol=1e-4)


def test_a_float_mask_with_a_bias_is_refused_where_the_example_had_none() -> None:
    ids = padded(2, 7)["input_ids"].clamp(min=5)
    bias = torch.randn(1, 4, 7, 7).expand(2, 4, 7, 7)
    with pytest.raises(ValueError, match=r"an additive term in .* that the example given to convert"):
        run(student("Bert"), input_ids=ids, attention_mask=bias)


def test_a_model_whose_part_the_example_does_not_run(tmp_path: Path) -> None:
    """LLaVA by text alone: pictures are then an error, not softmax."""
    text = padded(2, 7)
    model = moved(convert(teacher("Llava"), text))
    assert all("language_model" in name for name in inhibitors(model))
    with pytest.raises(ValueError, match="a CLIPAttention that the example given to convert"):
        run(model, **example("Llava"))
    model.save_pretrained(tmp_path)
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path)
    assert equal(run(loaded, **text), run(model, **text))
    with pytest.raises(ValueError, match="a CLIPAttention that the example given to convert"):
        run(loaded, **example("Llava"))


@pytest.mark.parametrize("head", ["LMHeadModel"])
def test_an_encoder_as_a_decoder_is_causal(head: str) -> None:
    torch.manual_seed(0)
    model = ARCHITECTURES["Bert"].build(head, is_decoder=True)
    converted = moved(convert(model, padded()))
    assert all(site.is_causal for site in converted.config.record.sites)
    ids = padded(1, 8)["input_ids"].clamp(min=5)
    whole = run(converted, input_ids=ids, use_cache=False)["logits"]
    torch.testing.assert_close(run(converted, input_ids=ids[:, :5], use_cache=False)["logits"], whole[:, :5])


@pytest.mark.parametrize("name", ["Bert", "Llama", "Bart"])
def test_attention_drops_keys_in_training_only(name: str) -> None:
    model = copy.deepcopy(teacher(name))
    field = "attention_probs_dropout_prob" if name == "Bert" else "attention_dropout"
    torch.manual_seed(0)
    model = ARCHITECTURES[name].build(**{field: 0.5})
    for module in model.modules():
        if type(module).__name__ == "Dropout" and name != "Bert":
            module.p = 0.0
    converted = convert(model, example(name))
    assert equal(run(converted, **example(name)), run(converted, **example(name)))
    converted.train()
    with torch.no_grad():
        a, b = (converted(**example(name)).logits for _ in range(2))
    assert not torch.equal(a, b)


def test_no_mask() -> None:
    assert read(None) == (None, None, False, None)
    assert read(None, is_causal=True) == (None, None, True, None)
    assert read(None, is_causal=True, query=QUERY[:, :, :1]).is_causal is False
    assert read_masks(SimpleNamespace(), QUERY, None, None, None).is_causal  # as softmax of transformers does


def test_padding_alone() -> None:
    assert read(PADDING).key_padding_mask is PADDING
    assert torch.equal(read(PADDING[:, None, None]).key_padding_mask, PADDING)
    added = torch.zeros(B, 1, 1, N).masked_fill(~PADDING[:, None, None], torch.finfo(torch.float32).min)
    masks = read(added)
    assert torch.equal(masks.key_padding_mask, PADDING)
    assert masks.bias is None or not masks.bias.any()


def test_pairs() -> None:
    pairs = PADDING[:, None, None] & torch.ones(N, N).bool().tril()
    assert read(pairs, is_causal=True) == (None, pairs, False, None)
    assert torch.equal(read(pairs).valid(N, N), pairs)


@pytest.mark.parametrize("hidden", [-100.0, torch.finfo(torch.float32).min, -torch.inf])
def test_pairs_and_a_bias_in_one(hidden: float) -> None:
    bias = torch.randn(1, H, N, N)
    pairs = torch.rand(B, 1, N, N) < 0.6
    pairs[0] = True
    masks = read(bias + torch.zeros(B, 1, N, N).masked_fill(~pairs, hidden))
    assert torch.equal(masks.valid(N, N).expand(B, H, N, N), pairs.expand(B, H, N, N))
    torch.testing.assert_close(masks.bias, bias[0], atol=2e-5, rtol=1e-5)


def test_a_bias_of_each_sequence_is_refused() -> None:
    with pytest.raises(ValueError, match="a score bias that differs within the batch"):
        read(None, bias=torch.randn(B, H, N, N))
    with pytest.raises(ValueError, match="a score bias that differs within the batch"):
        read(torch.randn(B, H, N, N))
    shared = torch.randn(1, H, N, N)
    assert torch.equal(read(None, bias=shared.expand(B, H, N, N)).bias, shared[0])


@pytest.mark.parametrize(
    ("kind", "padding", "shape"),
    [
        (causal_mask_function, None, None),
        (causal_mask_function, PADDING, (B, N)),
        (causal_mask_function, torch.ones(B, N).bool(), None),
        (bidirectional_mask_function, None, None),
        (bidirectional_mask_function, PADDING, (B, 1, 1, N)),
        (lambda *_: torch.tensor(True), PADDING, (B, 1, N, N)),
    ],
)
def test_compact_masks(kind: Any, padding: Tensor | None, shape: tuple[int, ...] | None) -> None:
    found = compact_mask(B, N, N, mask_function=kind, attention_mask=padding)
    assert (None if found is None else tuple(found.shape)) == shape
    explicit = explicit_mask(B, N, N, mask_function=kind, attention_mask=padding)
    assert explicit is not None
    assert explicit.shape[2:] == (N, N)
    is_causal = kind is causal_mask_function
    pairs = read(found, is_causal=is_causal).valid(N, N).expand(B, 1, N, N)
    assert torch.equal(pairs, explicit.expand(B, 1, N, N))


@pytest.mark.parametrize(
    "place", [{"q_offset": 3}, {"kv_offset": 2}, {"q_offset": torch.tensor(2)}, {"allow_is_causal_skip": False}]
)
def test_queries_elsewhere_than_at_the_end_need_every_pair(place: dict[str, Any]) -> None:
    found = compact_mask(B, 2, N + 3, mask_function=causal_mask_function, **place)
    assert found is not None
    assert found.shape[2:] == (2, N + 3)
