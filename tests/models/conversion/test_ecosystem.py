"""Converted models in what users run models with: Trainer, pipelines, PEFT, accelerate, torch.compile."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, Trainer, TrainingArguments, pipeline

from inhibitor_transformers import convert
from tests.models.conversion.zoo import (
    copied,
    equal,
    example,
    inhibitors,
    moved,
    padded,
    run,
    student,
    teacher,
)
from tests.models.tiny import save_tokenizer

ONE = ["Bert", "Llama", "GPT2", "T5", "ViT"]


def loss_of(model: Any, name: str) -> Tensor:
    outputs = model(**example(name))
    return next(t for t in outputs.to_tuple() if isinstance(t, Tensor)).float().pow(2).mean()


class Texts(torch.utils.data.Dataset[dict[str, Tensor]]):
    def __init__(self) -> None:
        self.ids = torch.randint(5, 90, (16, 8), generator=torch.Generator().manual_seed(0))

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"input_ids": self.ids[index], "labels": self.ids[index]}


def trainer(model: Any, folder: Path, steps: int) -> Trainer:
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        save_steps=2,
        per_device_train_batch_size=2,
        learning_rate=1e-2,
        lr_scheduler_type="constant",
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        seed=3,
    )
    return Trainer(model=model, args=arguments, train_dataset=Texts())


@pytest.mark.parametrize("name", ["Llama", "Bert"])
def test_trainer_trains_saves_and_resumes(name: str, tmp_path: Path) -> None:
    whole = trainer(copied(name), tmp_path / "whole", 4)
    whole.train()
    first = trainer(copied(name), tmp_path / "parts", 2)
    first.train()
    checkpoint = tmp_path / "parts" / "checkpoint-2"
    assert (checkpoint / "model.safetensors").exists()
    loaded = type(student(name)).from_pretrained(checkpoint)
    assert equal(run(loaded, **example(name)), run(first.model.eval(), **example(name)))
    resumed = trainer(copied(name), tmp_path / "parts", 4)
    resumed.train(resume_from_checkpoint=str(checkpoint))
    for key, tensor in whole.model.state_dict().items():
        torch.testing.assert_close(resumed.model.state_dict()[key], tensor, msg=key)
    start = student(name).state_dict()
    changed = [
        key for key, t in whole.model.state_dict().items() if ".inhibitor." in key and not torch.equal(t, start[key])
    ]
    assert changed


@pytest.mark.parametrize("name", ONE)
def test_optimizers_see_every_scalar(name: str) -> None:
    model = copied(name).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    scalars = {n: p.detach().clone() for n, p in model.named_parameters() if ".inhibitor." in n}
    loss_of(model, name).backward()
    optimizer.step()
    unmoved = [n for n, p in model.named_parameters() if n in scalars and torch.equal(p, scalars[n])]
    assert scalars
    assert unmoved == []


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("name", ["Bert", "Llama", "GPT2", "T5", "ViT"])
def test_gradient_checkpointing(name: str, reentrant: bool) -> None:
    gradients = []
    for checkpointing in (False, True):
        model = copied(name)
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": reentrant})
        torch.manual_seed(7)
        loss_of(model.train(), name).backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for key, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][key], gradient, rtol=1e-4, atol=1e-6, msg=key)


def checkpointed(model: Any) -> Any:
    """An ALBERT whose layer is repeated in the backward pass; transformers itself offers it no checkpointing."""
    (layer,) = [module for module in model.modules() if type(module).__name__ == "AlbertLayer"]
    forward = layer.forward
    layer.forward = lambda *args, **kwargs: checkpoint(forward, *args, use_reentrant=False, **kwargs)
    return model


def test_gradient_checkpointing_of_several_applications_is_refused() -> None:
    with pytest.raises(RuntimeError, match="gradient checkpointing repeats its calls in another order"):
        loss_of(checkpointed(copied("Albert")), "Albert").backward()
    shared = moved(convert(teacher("Albert"), example("Albert"), per_application=False))
    loss_of(shared, "Albert").backward()
    expected = {n: p.grad.clone() for n, p in shared.named_parameters() if p.grad is not None}
    shared.zero_grad()
    loss_of(checkpointed(shared), "Albert").backward()
    for key, gradient in expected.items():
        torch.testing.assert_close(dict(shared.named_parameters())[key].grad, gradient)


def test_applications_count_anew_after_a_forward_pass_that_failed() -> None:
    expected = run(student("Albert"), **example("Albert"))
    model = copied("Albert")
    (inhibitor,) = inhibitors(model).values()
    hook = inhibitor.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(model, **example("Albert"))
    hook.remove()
    assert equal(run(model, **example("Albert")), expected)
    assert torch.equal(
        run(model.base_model, **example("Albert"))["last_hidden_state"],
        run(student("Albert").base_model, **example("Albert"))["last_hidden_state"],
    )


@pytest.mark.parametrize("name", ["Llama", "Bert"])
def test_lora(name: str, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    targets = ["q_proj", "v_proj"] if name == "Llama" else ["query", "value"]
    model = peft.get_peft_model(copied(name), peft.LoraConfig(target_modules=targets, r=2, init_lora_weights=False))
    assert equal(run(model.unload(), **example(name)), run(student(name), **example(name)))
    model = peft.get_peft_model(copied(name), peft.LoraConfig(target_modules=targets, r=2))
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        loss_of(model, name).backward()
        optimizer.step()
    expected = run(model.eval(), **example(name))
    with pytest.raises(ValueError, match="Merge adapters"):
        model.base_model.model.save_pretrained(tmp_path / "unmerged")
    merged = model.merge_and_unload()
    assert len(inhibitors(merged)) == 2
    for key, tensor in run(merged, **example(name)).items():
        torch.testing.assert_close(tensor, expected[key], rtol=1e-4, atol=1e-4)
    merged.save_pretrained(tmp_path / "merged")
    loaded = type(student(name)).from_pretrained(tmp_path / "merged")
    assert equal(run(loaded, **example(name)), run(merged, **example(name)))


def test_adapters_saved_alone(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(target_modules=["q_proj"], r=2, init_lora_weights=False)
    model = peft.get_peft_model(copied("Llama"), config)
    model.save_pretrained(tmp_path)
    again = peft.PeftModel.from_pretrained(copied("Llama"), tmp_path)
    assert equal(run(again, **example("Llama")), run(model, **example("Llama")))


@pytest.mark.parametrize("name", ["Llama", "Albert", "T5"])
def test_offloaded_models(name: str) -> None:
    accelerate = pytest.importorskip("accelerate")
    expected = run(student(name), **example(name))
    model = accelerate.cpu_offload(copied(name), torch.device("cpu"))
    assert all(p.is_meta for m in inhibitors(model).values() for p in m.parameters())
    assert equal(run(model, **example(name)), expected)


@pytest.mark.parametrize("name", ["Llama", "Bert"])
def test_device_map(name: str, tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    student(name).save_pretrained(tmp_path)
    loaded = type(student(name)).from_pretrained(tmp_path, device_map="cpu")
    assert equal(run(loaded, **example(name)), run(student(name), **example(name)))


@pytest.mark.parametrize("name", ["Bert", "Llama"])
def test_compiled(name: str) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(copied(name), backend="eager")
    for key, tensor in run(compiled, **example(name)).items():
        torch.testing.assert_close(tensor, run(student(name), **example(name))[key], rtol=1e-4, atol=1e-4)


def test_pipelines(tmp_path: Path) -> None:
    tokenizer = save_tokenizer(tmp_path / "bert")
    student("Bert").save_pretrained(tmp_path / "bert")
    filled = pipeline("fill-mask", model=str(tmp_path / "bert"), device="cpu")("the old [MASK]")
    assert len(inhibitors(AutoModelForMaskedLM.from_pretrained(tmp_path / "bert"))) == 2
    assert len(filled) == 5
    tokenizer.save_pretrained(tmp_path / "llama")
    student("Llama").save_pretrained(tmp_path / "llama")
    write = pipeline("text-generation", model=str(tmp_path / "llama"), device="cpu")
    assert inhibitors(write.model)
    assert write("the old", max_new_tokens=3, do_sample=False)[0]["generated_text"].startswith("the old")


def test_sentence_transformers(tmp_path: Path) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers")
    save_tokenizer(tmp_path / "model")
    base = moved(convert(teacher("Bert", "Model"), example("Bert")))
    base.save_pretrained(tmp_path / "model")
    texts = ["the old cat", "a bird sleeps and the fish hears"]
    model = sentence_transformers.SentenceTransformer(str(tmp_path / "model"), device="cpu")
    assert len(inhibitors(model)) == 2
    expected = model.encode(texts, convert_to_tensor=True)
    model.save(str(tmp_path / "saved"))
    again = sentence_transformers.SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    assert torch.equal(again.encode(texts, convert_to_tensor=True), expected)
    with pytest.raises(Exception, match=r"."):
        transformers.BertModel.from_pretrained(tmp_path / "saved")


def test_resized_embeddings(tmp_path: Path) -> None:
    model = copied("Llama")
    model.resize_token_embeddings(120)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert equal(run(loaded, **example("Llama")), run(model.eval(), **example("Llama")))


def test_pruned_and_parametrized_models_are_not_written(tmp_path: Path) -> None:
    from torch.nn.utils import parametrizations, prune

    pruned = copied("Llama")
    prune.l1_unstructured(pruned.model.layers[0].mlp.up_proj, "weight", amount=0.2)
    normed = copied("Llama")
    parametrizations.weight_norm(normed.model.layers[0].mlp.up_proj)
    narrow = copied("Llama")
    narrow.model.layers[0].mlp.up_proj.weight = torch.nn.Parameter(torch.zeros(3, 32))
    for model in (pruned, normed, narrow):
        with pytest.raises(ValueError, match="nothing was written"):
            model.save_pretrained(tmp_path)
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", [{"save_original_format": False}, {"distributed_checkpoint": True}])
def test_options_that_would_write_unguarded_weights(option: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="would write weights that other classes load"):
        student("Llama").save_pretrained(tmp_path, **option)
    assert not list(tmp_path.iterdir())


def test_threads_of_their_own_count_applications_apart() -> None:
    """Copies do; one model in several threads is no promise of transformers either."""
    models = [copied("Albert"), copy.deepcopy(copied("Albert"))]
    expected = run(student("Albert"), **example("Albert"))
    assert all(equal(run(model, **example("Albert")), expected) for model in models)
    assert equal(run(models[0], **example("Albert")), expected)
    assert not equal(run(models[0], **padded(2, 5)), expected)
