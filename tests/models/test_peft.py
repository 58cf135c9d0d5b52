"""LoRA on students: with trained scalars, saved, loaded and merged, and what to write for a classifier."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from inhibitor_transformers import InhibiDistilBertModel, InhibitorScalars
from inhibitor_transformers.deploy.quantize import quantize
from tests.models.tiny import (
    inputs_for,
    labels_for,
    outputs_of,
    same_outputs,
    save_tokenizer,
    student_class,
    tiny_student,
    tiny_teacher,
)

peft = pytest.importorskip("peft", reason="peft is not installed")

ALL_LINEAR = ["q_lin", "k_lin", "v_lin", "out_lin", "lin1", "lin2"]  # as docs/reference/compatibility.md says


def trained(model: Any, name: str, steps: int = 2) -> Any:
    """The model after a few large steps on everything that is trained."""
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.05)
    inputs = inputs_for(name) | labels_for(name)
    for _ in range(steps):
        output = model.train()(**inputs)
        (output.last_hidden_state.square().mean() if name == "Model" else output.loss).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


def scalars_of(model: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for m in model.modules() if isinstance(m, InhibitorScalars) for p in m.parameters()]


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "scalars": ("Model", {"target_modules": ["q_lin", "v_lin"], "modules_to_save": ["inhibitor"]}),
    "scalars alone": ("Model", {"target_modules": ["out_lin"], "modules_to_save": ["inhibitor"], "r": 1}),
    "classifier": (
        "ForSequenceClassification",
        {
            "target_modules": ALL_LINEAR,
            "modules_to_save": ["inhibitor", "pre_classifier", "classifier"],
            "task_type": "SEQ_CLS",
        },
    ),
    "whole query projections": ("Model", {"target_modules": ["v_lin"], "modules_to_save": ["q_lin"]}),
    "embeddings": ("ForMaskedLM", {"target_modules": ["k_lin"], "modules_to_save": ["token_type_embeddings"]}),
}


@pytest.mark.parametrize("case", CASES)
def test_trained_saved_loaded_and_merged(case: str, tmp_path: Path) -> None:
    name, settings = CASES[case]
    tiny_student(name, type_vocab_size=2).save_pretrained(tmp_path / "base")
    load, inputs = student_class(name).from_pretrained, inputs_for(name)
    before = outputs_of(load(tmp_path / "base"), **inputs)
    model = peft.get_peft_model(load(tmp_path / "base"), peft.LoraConfig(**({"r": 2} | settings)))
    assert same_outputs(outputs_of(model, **inputs), before)  # LoRA starts as nothing
    trained(model, name)
    expected = outputs_of(model, **inputs)
    assert not same_outputs(expected, before)
    model.save_pretrained(tmp_path / "adapter")
    again = peft.PeftModel.from_pretrained(load(tmp_path / "base"), tmp_path / "adapter").eval()
    assert same_outputs(outputs_of(again, **inputs), expected)
    plain = load(tmp_path / "base")
    plain.load_adapter(str(tmp_path / "adapter"))  # transformers' own way
    assert same_outputs(outputs_of(plain.eval(), **inputs), expected)
    with again.disable_adapter():
        assert same_outputs(outputs_of(again, **inputs), before)
    merged = again.merge_and_unload()
    found = outputs_of(merged, **inputs)
    for key, value in found.items():
        torch.testing.assert_close(value, expected[key])
    merged.save_pretrained(tmp_path / "merged")
    assert same_outputs(outputs_of(load(tmp_path / "merged"), **inputs), found)


def test_the_scalars_are_trained_saved_and_merged(tmp_path: Path) -> None:
    name, settings = CASES["scalars"]
    model = tiny_student(name)
    before = scalars_of(model)
    wrapped = trained(peft.get_peft_model(model, peft.LoraConfig(**settings)), name)
    moved = [a.modules_to_save["default"] for a in wrapped.modules() if type(a).__name__ == "ModulesToSaveWrapper"]
    assert len(moved) == 2
    after = [p.detach().clone() for module in moved for p in module.parameters()]
    assert all(not torch.equal(a, b) for a, b in zip(after, before, strict=True))
    wrapped.save_pretrained(tmp_path)
    assert sum(".inhibitor." in key for key in load_file(tmp_path / "adapter_model.safetensors")) == len(before)
    assert all(torch.equal(a, b) for a, b in zip(scalars_of(wrapped.merge_and_unload()), after, strict=True))


def test_a_checkpointed_encoder(tmp_path: Path) -> None:
    model = peft.get_peft_model(tiny_student(), peft.LoraConfig(**CASES["scalars"][1]))
    model.enable_input_require_grads()
    model.gradient_checkpointing_enable({"use_reentrant": True})
    trained(model, "Model")
    assert all(p.grad is None for p in model.parameters())


def test_adapters_are_merged_before_quantization(tmp_path: Path) -> None:
    tokenizer, texts = save_tokenizer(tmp_path), ["the old cat sees a bird", "a small fish"]
    model = tiny_student()
    wrapped = trained(peft.get_peft_model(model, peft.LoraConfig(**CASES["scalars"][1])), "Model")
    with pytest.raises(ValueError, match=r"merge them first, model = model.merge_and_unload\(\)"):
        quantize(wrapped, texts, tokenizer)
    with pytest.raises(ValueError, match=r"attention.q_lin is not a plain Linear but Linear.*merge_and_unload"):
        quantize(model, texts, tokenizer)  # which peft changed in place
    assert isinstance(quantize(wrapped.merge_and_unload(), texts, tokenizer), InhibiDistilBertModel)


def test_a_teacher_with_adapters_is_merged_first() -> None:
    teacher = tiny_teacher("bert")
    wrapped = peft.get_peft_model(teacher, peft.LoraConfig(target_modules=["query"]))
    for given in (teacher, wrapped):
        with pytest.raises(ValueError, match=r"^[^\n]*merge_and_unload\(\)[^\n]*$"):
            InhibiDistilBertModel.from_teacher(given)
    InhibiDistilBertModel.from_teacher(wrapped.merge_and_unload())


@pytest.mark.parametrize("model", [tiny_student, partial(tiny_teacher, "distilbert")], ids=["ours", "distilbert"])
def test_all_linear_fails_as_on_distilbert(model: Any) -> None:
    head = "SequenceClassification"
    with pytest.raises(TypeError, match="modules_to_save cannot be applied to modules of type"):
        peft.get_peft_model(
            model(f"For{head}" if model is tiny_student else head),
            peft.LoraConfig(target_modules="all-linear", task_type="SEQ_CLS"),
        )


def test_what_the_documentation_says(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "compatibility.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names = {"model": tiny_student("ForSequenceClassification")}
    exec(example, names)
    adapted = {name.partition(".lora_A")[0].rpartition(".")[2] for name, _ in names["model"].named_parameters()}
    assert adapted >= set(ALL_LINEAR)
    trained_whole = {n for n, p in names["model"].named_parameters() if p.requires_grad and "modules_to_save" in n}
    for part in ("inhibitor.", "pre_classifier.", "classifier."):
        assert any(f".{part}" in name for name in trained_whole)
    trained(names["model"], "ForSequenceClassification")
