"""What `convert` finds in a model, and that it leaves the model as it was."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from inhibitor_transformers import convert
from tests.models.conversion.zoo import CONVERTED, copied, equal, example, inhibitors, run, student, teacher

# Modules; of them causal; with an additive term of the scores; more than one application.
FOUND = {
    "Bert": (2, 0, 0, 0),
    "Roberta": (2, 0, 0, 0),
    "XLMRoberta": (2, 0, 0, 0),
    "Electra": (2, 0, 0, 0),
    "DistilBert": (2, 0, 0, 0),
    "Albert": (1, 0, 0, 1),
    "Esm": (2, 0, 0, 0),
    "ModernBert": (3, 0, 0, 0),
    "GPT2": (2, 2, 0, 0),
    "Llama": (2, 2, 0, 0),
    "Mistral": (2, 2, 0, 0),
    "Qwen2": (2, 2, 0, 0),
    "Qwen3": (2, 2, 0, 0),
    "Gemma3": (2, 2, 0, 0),
    "Phi": (2, 2, 0, 0),
    "OPT": (2, 2, 0, 0),
    "GPTNeoX": (2, 2, 0, 0),
    "Mixtral": (2, 2, 0, 0),
    "T5": (6, 2, 6, 0),
    "Bart": (6, 2, 0, 0),
    "Marian": (6, 2, 0, 0),
    "Whisper": (6, 2, 0, 0),
    "ViT": (2, 0, 0, 0),
    "DeiT": (2, 0, 0, 0),
    "Dinov2": (2, 0, 0, 0),
    "Beit": (2, 0, 2, 0),
    "Swin": (4, 0, 4, 0),
    "CLIP": (4, 2, 0, 0),
    "Siglip": (4, 0, 0, 0),
    "Llava": (4, 2, 0, 0),
    "AST": (2, 0, 0, 0),
    "Wav2Vec2": (2, 0, 0, 0),
    "Hubert": (2, 0, 0, 0),
    "TimeSeriesTransformer": (6, 2, 0, 0),
}


def state_of(model: Any) -> dict[str, Any]:
    """All of a model that conversion could leave changed."""
    return {
        "class": type(model),
        "classes": [type(module) for module in model.modules()],
        "configurations": [type(m.config) for m in model.modules() if hasattr(m, "config")],
        "config": model.config.to_dict() | {"attention": model.config._attn_implementation},
        "training": [module.training for module in model.modules()],
        "attributes": [
            sorted(vars(module).keys() - {"_output_capturing_hooks_installed"}) for module in model.modules()
        ],
        "hooks": [len(module._forward_pre_hooks) for module in model.modules()],
        "weights": {name: (t.data_ptr(), t._version, t.requires_grad) for name, t in model.named_parameters()},
    }


def test_every_architecture_has_its_row() -> None:
    assert list(FOUND) == CONVERTED


@pytest.mark.parametrize("name", CONVERTED)
def test_attention_modules_are_found(name: str) -> None:
    record = student(name).config.record
    sites = record.sites
    assert record.unconverted == ()
    assert FOUND[name] == (
        len(sites),
        sum(site.is_causal for site in sites),
        sum(site.has_bias for site in sites),
        sum(site.applications > 1 for site in sites),
    )
    modules = dict(teacher(name).named_modules())
    for site in sites:
        assert type(modules[site.name]).__name__ == site.kind
        assert site.heads * site.dim <= 48
    assert {site.name for site in sites} == set(inhibitors(student(name)))


@pytest.mark.parametrize("name", CONVERTED)
def test_the_model_stays_as_it_was(name: str) -> None:
    model = copy.deepcopy(teacher(name))
    model.train()
    model.base_model.eval()
    before, outputs = state_of(model), run(teacher(name), **example(name))
    converted = convert(model, example(name))
    assert state_of(model) == before
    assert not converted.training
    assert {id(p) for p in model.parameters()}.isdisjoint(id(p) for p in converted.parameters())
    assert equal(run(model.eval(), **example(name)), outputs)


@pytest.mark.parametrize("name", ["Llama", "Bart", "CLIP", "Albert"])
def test_in_place(name: str) -> None:
    model = copy.deepcopy(teacher(name))
    weights = dict(model.named_parameters())
    base = type(model)
    converted = convert(model, example(name), in_place=True)
    assert converted is model
    assert isinstance(model, base)
    assert all(dict(model.named_parameters())[n] is p for n, p in weights.items())
    assert equal(run(model, **example(name)), run(convert(teacher(name), example(name)), **example(name)))


def test_a_module_applied_several_times_has_scalars_for_each() -> None:
    (site,) = student("Albert").config.record.sites
    (module,) = inhibitors(student("Albert")).values()
    assert site.applications == 3 == len(module.applications)
    shared = convert(teacher("Albert"), example("Albert"), per_application=False)
    (module,) = inhibitors(shared).values()
    assert len(module.applications) == 1


@pytest.mark.parametrize("name", ["Bert", "GPT2", "Llama", "Mistral", "ViT"])
def test_a_part_can_be_converted(name: str) -> None:
    last = student(name).config.record.sites[-1].name
    part = convert(teacher(name), example(name), modules=[last])
    assert list(inhibitors(part)) == [last]
    assert [left.reason for left in part.config.record.unconverted] == ["not asked for"]
    assert f"{part.config.record.unconverted[0].name}  softmax: not asked for" in str(part.inhibitor_report())
    with torch.no_grad():
        softmax = copy.deepcopy(teacher(name))(**example(name), output_hidden_states=True).hidden_states
        mixed = part(**example(name), output_hidden_states=True).hidden_states
    mask = example(name).get("attention_mask", torch.ones(1))
    kept = mask.bool() if mask.dim() == 2 else slice(None)
    torch.testing.assert_close(mixed[1][kept], softmax[1][kept], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(mixed[2][kept], softmax[2][kept], rtol=1e-2)


def test_parts_are_named_by_what_holds_them() -> None:
    part = convert(teacher("Bart"), example("Bart"), modules=["model.encoder"])
    assert list(inhibitors(part)) == [f"model.encoder.layers.{i}.self_attn" for i in range(2)]
    cross = [f"model.decoder.layers.{i}.encoder_attn" for i in range(2)]
    assert list(inhibitors(convert(teacher("Bart"), example("Bart"), modules=cross))) == cross


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_what_stays_softmax_runs_as_before(implementation: str) -> None:
    model = copy.deepcopy(teacher("Llama"))
    model.set_attn_implementation(implementation)
    part = convert(model, example("Llama"), modules=["model.layers.1"])
    assert part.config.record.softmax == implementation


@pytest.mark.parametrize("name", ["Bert", "Llama", "Albert", "Bart"])
def test_the_report_names_every_module(name: str) -> None:
    report = str(student(name).inhibitor_report())
    count = len(student(name).config.record.sites)
    assert report.startswith(f"{type(student(name)).__name__}: {count} of {count} attention modules compute inhibitor")
    assert ("causal" in report) == (name in ("Llama", "Bart"))
    assert ("4 heads on 2 of 8" in report) == (name == "Llama")
    assert ("applied 3 times" in report) == (name == "Albert")


@pytest.mark.parametrize("name", CONVERTED)
def test_a_converted_model_is_an_instance_of_its_class(name: str) -> None:
    assert isinstance(student(name), type(teacher(name)))
    assert isinstance(student(name).config, type(teacher(name).config))
    assert student(name).config.model_type == teacher(name).config.model_type
    assert type(student(name)) is type(copied(name))
