"""No class runs the weights of a converted model as softmax attention, however it is asked to load them."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModel, AutoModelForCausalLM, EncoderDecoderModel, PreTrainedModel

from inhibitor_transformers import convert
from tests.models.conversion.zoo import (
    ARCHITECTURES,
    CONVERTED,
    copied,
    equal,
    example,
    inhibitors,
    run,
    student,
    teacher,
)

# Classes of other configurations, whose sizes are those of the published models.
LARGE = ("Gemma3Model", "Gemma3ForConditionalGeneration", "Gemma3ForSequenceClassification")
WAYS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "with its own configuration": {"config": True},
    "ignoring shapes": {"ignore_mismatched_sizes": True},
    "with an attention": {"attn_implementation": "sdpa"},
}


def softmax_classes(name: str) -> list[Any]:
    """All classes of transformers for the architecture."""
    module = sys.modules[getattr(transformers, ARCHITECTURES[name].prefix + ARCHITECTURES[name].head).__module__]
    return [
        kind
        for known, kind in vars(module).items()
        if isinstance(kind, type)
        and issubclass(kind, PreTrainedModel)
        and kind.__module__ == module.__name__
        and hasattr(transformers, known)
        and not known.endswith("PreTrainedModel")
        and known not in LARGE
    ]


def configuration_for(name: str, kind: Any) -> Any:
    """The softmax configuration of this class, with the sizes of the converted model."""
    whole = teacher(name).config
    parts = [whole, *(value for value in vars(whole).values() if isinstance(value, transformers.PretrainedConfig))]
    found = [part for part in parts if type(part) is kind.config_class]
    return copy.deepcopy(found[0]) if found else None


def taken(model: Any, name: str) -> list[str]:
    """Weights of attention modules that `model` has of the student."""
    of_attention = [
        tensor
        for key, tensor in student(name).state_dict().items()
        if tensor.dim() == 2 and any(key.startswith(f"{module}.") for module in inhibitors(student(name)))
    ]
    return [
        key
        for key, tensor in model.state_dict().items()
        if any(tensor.shape == other.shape and torch.equal(tensor, other) for other in of_attention)
    ]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {name: tmp_path_factory.mktemp(name) for name in CONVERTED}
    for name, folder in made.items():
        student(name).save_pretrained(folder)
    return made


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", CONVERTED)
def test_explicit_classes(name: str, way: str, folders: dict[str, Path]) -> None:
    for kind in softmax_classes(name):
        options = dict(WAYS[way])
        if options.get("config"):
            options["config"] = configuration_for(name, kind)
        found = loaded_or_refused(kind, folders[name], options)
        if not isinstance(found, Exception):
            assert inhibitors(found) or not taken(found, name), kind
        elif not isinstance(found, RuntimeError | ValueError | TypeError | AttributeError):
            assert "inhibitor attention" in str(found), kind  # an error of its own for fields of configurations


def loaded_or_refused(kind: Any, folder: Path, options: dict[str, Any]) -> Any:
    try:
        return kind.from_pretrained(folder, **options)
    except Exception as error:
        return error


@pytest.mark.parametrize("name", ["Llama", "Bert", "ViT", "CLIP"])
def test_the_message_names_inhibitor_attention(name: str, folders: dict[str, Path]) -> None:
    with pytest.raises(Exception, match="inhibitor attention"):
        getattr(transformers, f"{ARCHITECTURES[name].prefix}Model").from_pretrained(folders[name])


@pytest.mark.parametrize("implementation", ["sdpa", "eager", "flash_attention_2", "flex_attention", "inhibitor_else"])
@pytest.mark.parametrize("name", ["Llama", "Bart", "CLIP"])
def test_other_attention_is_refused(name: str, implementation: str, folders: dict[str, Path]) -> None:
    model = copied(name)
    with pytest.raises(ValueError, match=r"computes inhibitor attention|would run softmax"):
        model.set_attn_implementation(implementation)
    with pytest.raises(ValueError, match=r"computes inhibitor attention|would run softmax"):
        type(model).from_pretrained(folders[name], attn_implementation=implementation)
    assert equal(run(model, **example(name)), run(student(name), **example(name)))


def test_own_attention_may_be_named(folders: dict[str, Path]) -> None:
    loaded = AutoModelForCausalLM.from_pretrained(folders["Llama"], attn_implementation="inhibitor")
    assert equal(run(loaded, **example("Llama")), run(student("Llama"), **example("Llama")))
    model = copied("Llama")
    model.set_attn_implementation("inhibitor")
    assert equal(run(model, **example("Llama")), run(student("Llama"), **example("Llama")))


@pytest.mark.parametrize("name", ["CLIP", "Llava", "Bart"])
def test_attention_set_on_a_part_is_refused(name: str) -> None:
    parts = [m for m in copied(name).modules() if isinstance(m, PreTrainedModel)]
    assert len(parts) > 1
    for part in parts:
        with pytest.raises(ValueError, match="would run softmax"):
            part.set_attn_implementation("sdpa")


@pytest.mark.parametrize("name", ["Llama", "GPT2", "T5", "Mixtral", "ViT"])
def test_weights_by_themselves(name: str, folders: dict[str, Path]) -> None:
    state = load_file(folders[name] / "model.safetensors")
    kind = type(teacher(name))
    with pytest.raises(RuntimeError, match=r"ignore_mismatched_sizes|size mismatch"):
        kind.from_pretrained(None, config=copy.deepcopy(teacher(name).config), state_dict=dict(state))
    if name not in ("Mixtral", "ViT"):  # whose files have other names
        with pytest.raises(RuntimeError, match="size mismatch"):
            kind(copy.deepcopy(teacher(name).config)).load_state_dict(state, strict=False)


def test_softmax_weights_are_no_converted_model(tmp_path: Path) -> None:
    """The weights of a softmax model beside a converted configuration."""
    student("Llama").save_pretrained(tmp_path)
    config = (tmp_path / "config.json").read_bytes()
    teacher("Llama").save_pretrained(tmp_path)
    (tmp_path / "config.json").write_bytes(config)
    with pytest.raises(ValueError, match="does not hold the weights of InhibitorLlamaForCausalLM: 10 missing"):
        AutoModelForCausalLM.from_pretrained(tmp_path)


def test_weights_in_their_ordinary_shape_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    student("Llama").save_pretrained(tmp_path)
    state = {key: t.squeeze(0) if t.dim() == 3 else t for key, t in load_file(tmp_path / "model.safetensors").items()}
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match="other classes run them as softmax attention"):
        AutoModelForCausalLM.from_pretrained(tmp_path)


def test_a_lost_weight_is_an_error(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    student("Bert").save_pretrained(tmp_path)
    state: dict[str, Tensor] = load_file(tmp_path / "model.safetensors")
    for end in ("inhibitor.applications.0.gamma", "self.key.weight"):
        lost = next(key for key in state if key.endswith(end))
        save_file({k: t for k, t in state.items() if k != lost}, tmp_path / "model.safetensors", {"format": "pt"})
        with pytest.raises(ValueError, match="1 missing"):
            AutoModel.from_pretrained(tmp_path)


def test_a_composite_around_a_converted_encoder(tmp_path: Path) -> None:
    decoder = ARCHITECTURES["Bert"].build("LMHeadModel", is_decoder=True, add_cross_attention=True)
    model = EncoderDecoderModel(encoder=copied("Bert", "Model"), decoder=decoder).eval()
    inputs = example("Bert") | {"decoder_input_ids": example("Bert")["input_ids"]}
    assert len(inhibitors(model)) == 2
    run(model, **inputs)
    model.save_pretrained(tmp_path / "whole")
    with pytest.raises(
        RuntimeError, match="ignore_mismatched_sizes"
    ):  # not as softmax; `convert` the composite instead
        EncoderDecoderModel.from_pretrained(tmp_path / "whole")
    student("Bert", "Model").save_pretrained(tmp_path / "encoder")
    decoder.save_pretrained(tmp_path / "decoder")
    pair = EncoderDecoderModel.from_encoder_decoder_pretrained(tmp_path / "encoder", tmp_path / "decoder")
    assert equal(run(pair, **inputs), run(model, **inputs))


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_a_composite_is_converted_whole_or_in_part(part: str, tmp_path: Path) -> None:
    config = transformers.EncoderDecoderConfig.from_encoder_decoder_configs(
        teacher("Bert", "Model").config,
        transformers.BertConfig(**(ARCHITECTURES["Bert"].fields() | {"is_decoder": True, "add_cross_attention": True})),
    )
    model = EncoderDecoderModel(config=config).eval()
    inputs = example("Bert") | {"decoder_input_ids": example("Bert")["input_ids"]}
    converted = convert(model, inputs, modules=[part])
    assert all(name.startswith(f"{part}.") for name in inhibitors(converted))
    converted.save_pretrained(tmp_path)
    loaded = type(converted).from_pretrained(tmp_path)
    assert inhibitors(loaded).keys() == inhibitors(converted).keys()
    assert equal(run(loaded, **inputs), run(converted, **inputs))
    with pytest.raises(Exception, match="inhibitor attention"):
        EncoderDecoderModel.from_pretrained(tmp_path)
