"""Every converted module computes inhibitor attention: its outputs against the formula in float64."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from inhibitor_transformers import convert
from inhibitor_transformers.attention.reference import attend, inhibit, scores
from inhibitor_transformers.models.conversion.attention import ConvertedAttention, ConvertedScalars
from tests.models.conversion.zoo import CONVERTED, DECODERS, ENCODERS, copied, example, padded, run, student, teacher

# How far a query of these sees: (keys back, keys ahead), by the layer; None: all.
WINDOWS: dict[str, list[tuple[int, int] | None]] = {
    "Mistral": [(3, 0), (3, 0)],
    "Gemma3": [(3, 0), None],
    "ModernBert": [None, (2, 2), (2, 2)],
}


class Seen(NamedTuple):
    """One call. query, key, value as `ConvertedAttention` was given them; output (B, Nq, H, Dv)."""

    module: ConvertedAttention
    scalars: ConvertedScalars
    query: Tensor
    key: Tensor
    value: Tensor
    mask: Tensor | None
    bias: Tensor | None
    output: Tensor


@contextmanager
def watched(model: nn.Module) -> Iterator[list[Seen]]:
    """While inside, every call of a converted module is appended to the list."""
    seen: list[Seen] = []
    last: list[tuple[ConvertedScalars, Tensor | None]] = []
    hooks = []
    for module in model.modules():
        if isinstance(module, ConvertedScalars):
            hooks.append(
                module.register_forward_pre_hook(
                    lambda scalars, _args, kwargs: last.append((scalars, kwargs.get("bias"))), with_kwargs=True
                )
            )
        if isinstance(module, ConvertedAttention):
            hooks.append(
                module.register_forward_hook(lambda m, args, out: seen.append(_seen(m, args, out, last.pop())))
            )
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _seen(module: Any, args: Any, output: Any, last: tuple[ConvertedScalars, Tensor | None]) -> Seen:
    _module, query, key, value, mask = args
    return Seen(module, last[0], query, key, value, mask, last[1], output[0])


def by_formula(seen: Seen, valid: Tensor) -> Tensor:
    """(B, Nq, H, Dv) in float64. valid: (B or 1, 1, Nq, Nk)."""
    scalars, options = seen.scalars, seen.module.options
    groups = seen.query.shape[1] // seen.key.shape[1]
    q, k, v = (t.double() for t in (seen.query, seen.key, seen.value))
    k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    exponent = torch.zeros(1) if options.normalize else scalars.length_exponent
    parameters = [p.double()[:, None, None] for p in (scalars.gamma, scalars.eta, scalars.delta, exponent)]
    bias = torch.zeros(1, 1, 1, 1, dtype=torch.float64)
    if seen.bias is not None:
        bias = bias - (scalars.bias_scale[:, None, None] * seen.bias).double()
    if options.key_norm:  # γ/√D (Σ|q − k| − λ Σ|k|)
        size = scalars.key_norm.double()[:, None] * k.abs().sum(-1)
        bias = bias - (parameters[0][..., 0] / q.shape[-1] ** 0.5 * size)[:, :, None]
    fixed = {"length_reference": options.length_reference, "signed": options.signed, "center": options.center}
    valid = valid.expand(len(q), 1, q.shape[2], k.shape[2])
    if not options.normalize:
        return attend(q, k, v, valid, bias, *parameters, None, None, **fixed).transpose(1, 2)
    gamma, eta, delta, _ = parameters
    z = scores(q, k, valid, bias, gamma, delta, None, options.center)
    unit = scalars.unit.double()[:, None, None]
    passed = (1 - z / unit).clamp(min=0).sum(-1, keepdim=True).clamp(min=0.1)
    return (eta * inhibit(z, v, valid, options.signed) / passed).transpose(1, 2)


def expected_pairs(name: str, index: int, seen: Seen, inputs: dict[str, Any]) -> Tensor:
    """Which pairs count, (B or 1, 1, Nq, Nk), by what the model is known to do."""
    queries, keys = seen.query.shape[2], seen.key.shape[2]
    site = seen.module.site
    i, j = torch.arange(queries)[:, None], torch.arange(keys)
    pairs = torch.ones(1, 1, queries, keys, dtype=torch.bool)
    if name == "Swin" and seen.mask is not None:  # its windows are its own, of a shifted picture the parts too
        return seen.mask.amin(1, keepdim=True) > -50
    if site.is_causal:
        pairs = pairs & (j <= i)
    if window := WINDOWS.get(name, [None] * 9)[index]:
        pairs = pairs & (i - j <= window[0]) & (j - i <= window[1])
    for field in ("attention_mask", "decoder_attention_mask"):
        mask = inputs.get(field)
        if mask is not None and mask.shape[1] == keys and _is_of_decoder(site.name, inputs) == (field[0] == "d"):
            pairs = pairs & mask.bool()[:, None, None]
    return pairs


def _is_of_decoder(site: str, inputs: dict[str, Any]) -> bool:
    cross = "encoder_attn" in site or "EncDec" in site
    return "decoder_input_ids" in inputs and "decoder." in site and not cross


def real_queries(seen: Seen, inputs: dict[str, Any]) -> Tensor:
    """(B, Nq) bool: what is no padding."""
    queries = seen.query.shape[2]
    masks = [inputs[field] for field in ("attention_mask", "decoder_attention_mask") if field in inputs]
    found = [mask.bool() for mask in masks if mask.shape == (len(seen.query), queries)]
    return found[0] if found else torch.ones(len(seen.query), queries, dtype=torch.bool)


def check(name: str, model: Any, inputs: dict[str, Any]) -> int:
    with watched(model) as calls:
        run(model, **inputs)
    for index, seen in enumerate(calls):
        expected = by_formula(seen, expected_pairs(name, index, seen, inputs))
        kept = real_queries(seen, inputs)
        assert seen.output.shape == expected.shape
        torch.testing.assert_close(seen.output[kept].double(), expected[kept], rtol=1e-4, atol=1e-4)
    return len(calls)


TEXT = [name for name in (*ENCODERS, *DECODERS) if name in CONVERTED]
SPEECH = ["Wav2Vec2", "Hubert"]  # whose masks are of samples: below
WHOLE = [name for name in CONVERTED if name not in SPEECH]


@pytest.mark.parametrize("name", WHOLE)
def test_every_module_computes_inhibitor_attention(name: str) -> None:
    calls = check(name, student(name), example(name))
    assert calls == sum(site.applications for site in student(name).config.record.sites)


@pytest.mark.parametrize("name", TEXT)
def test_padding_on_the_left_and_none(name: str) -> None:
    check(name, student(name), padded(left=True))
    check(name, student(name), {"input_ids": padded()["input_ids"].clamp(min=5)})


@pytest.mark.parametrize("length", [1, 2, 17])
@pytest.mark.parametrize("name", ["Bert", "Llama", "Mistral", "GPT2", "Albert"])
def test_odd_sizes(name: str, length: int) -> None:
    check(name, student(name), padded(1, length))


@pytest.mark.parametrize(
    "options",
    [{"signed": False}, {"center": "none"}, {"length_reference": 3.0}, {"value_center": "mean"}],
)
@pytest.mark.parametrize("name", ["Bert", "Llama"])
def test_options(name: str, options: dict[str, Any]) -> None:
    from inhibitor_transformers import convert
    from tests.models.conversion.zoo import moved, teacher

    model = moved(convert(teacher(name), example(name), **options))
    if options.get("value_center") != "mean" or name == "Llama":  # whose queries see keys of their own
        check(name, model, example(name))
        return
    with watched(model) as calls:
        run(model, **example(name))
    valid = example(name)["attention_mask"].bool()[:, None, None]
    for seen in calls:
        weight = valid[:, 0, 0, :, None][:, None].float()
        mean = (seen.value * weight).sum(2, keepdim=True) / weight.sum(2, keepdim=True)
        shifted = seen._replace(value=seen.value - mean)
        expected = by_formula(shifted, valid.expand(-1, -1, seen.query.shape[2], -1)) + mean.transpose(1, 2).double()
        kept = real_queries(seen, example(name))
        torch.testing.assert_close(seen.output[kept].double(), expected[kept], rtol=1e-4, atol=1e-4)


def test_learned_feature_scales() -> None:
    from inhibitor_transformers import convert
    from tests.models.conversion.zoo import moved, teacher

    model = moved(convert(teacher("Llama"), example("Llama"), query_scale=True))
    with watched(model) as calls:
        run(model, **example("Llama"))
    for index, seen in enumerate(calls):
        scaled = seen._replace(query=seen.query * seen.scalars.query_scale[:, None])
        expected = by_formula(scaled, expected_pairs("Llama", index, seen, example("Llama")))
        kept = real_queries(seen, example("Llama"))
        torch.testing.assert_close(seen.output[kept].double(), expected[kept], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", SPEECH)
def test_speech_hides_frames_of_padding(name: str) -> None:
    inputs = example(name)
    with watched(student(name)) as calls:
        run(student(name), **inputs)
    for seen in calls:
        frames = seen.key.shape[2]
        lengths = student(name)._get_feat_extract_output_lengths(inputs["attention_mask"].sum(1))
        valid = torch.arange(frames) < lengths[:, None]
        assert 0 < valid.sum() < valid.numel()
        expected = by_formula(seen, valid[:, None, None].expand(-1, 1, frames, -1))
        torch.testing.assert_close(seen.output[valid].double(), expected[valid], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", CONVERTED)
def test_gradients_are_finite_and_reach_every_scalar(name: str) -> None:
    model = copied(name)
    outputs = model(**example(name))
    first = next(t for t in outputs.to_tuple() if isinstance(t, Tensor) and t.requires_grad)
    first.float().pow(2).mean().backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is None or torch.isfinite(parameter.grad).all(), parameter_name
        if ".inhibitor." in parameter_name and name != "CLIP":  # whose first output is of one tower
            assert parameter.grad is not None, parameter_name


@pytest.mark.parametrize("name", [*TEXT, "T5", "Bart", "Marian"])
def test_padding_changes_nothing(name: str) -> None:
    """A sequence alone gives what it gives beside longer ones."""
    inputs = example(name)
    together = run(student(name), **inputs)["logits"]
    for row in range(len(together)):
        alone = {}
        for field, value in inputs.items():
            length = int(inputs[field.replace("input_ids", "attention_mask")][row].sum())
            alone[field] = value[row : row + 1, :length]
        logits = run(student(name), **alone)["logits"]
        torch.testing.assert_close(together[row, : logits.shape[1]], logits[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["Bert", "GPT2", "OPT", "Llama", "ModernBert", "Bart", "ViT", "Albert"])
def test_attentions_are_scores(name: str) -> None:
    """`output_attentions` gives Z, at which a weight of zero is full attention; outputs stay as they are."""
    plain = run(student(name), **example(name))
    with torch.no_grad():
        outputs = copied(name)(**example(name), output_attentions=True, output_hidden_states=True)
    kind = "encoder_attentions" if name == "Bart" else "attentions"
    layers = outputs[kind]
    sites = [s for s in student(name).config.record.sites if name != "Bart" or "encoder.layers" in s.name]
    assert len(layers) == sum(site.applications for site in sites)
    for z in layers:
        assert z.shape[:2] == (len(next(iter(example(name).values()))), 4)
        assert (z >= 0).all()
        assert not torch.allclose(z.nan_to_num(posinf=0.0).sum(-1), torch.ones(()))
    for field, value in plain.items():
        if field in outputs:
            torch.testing.assert_close(outputs[field], value, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["Llama", "GPT2", "T5"])
def test_autocast(name: str, dtype: torch.dtype) -> None:
    """Rotary embeddings leave queries and keys in float32, values are autocast."""
    with torch.no_grad():
        plain = student(name)(**example(name))[0]
        with torch.autocast("cpu", dtype):
            found = student(name)(**example(name))[0]
    assert found.isfinite().all()
    assert (found.float() - plain).norm() < 0.1 * plain.norm()


@pytest.mark.parametrize("form", ["inhibitor", "l1_softmax"])
def test_float64(form: str) -> None:
    model = convert(teacher("GPT2"), example("GPT2"), form=form)
    single = model(**example("GPT2"))[0]
    double = model.double()(**example("GPT2"))[0]
    assert double.dtype == torch.float64
    torch.testing.assert_close(double.float(), single, rtol=1e-3, atol=1e-4)
