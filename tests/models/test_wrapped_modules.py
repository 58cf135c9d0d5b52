"""What other libraries do to modules: moving parameters for the time of a call, replacing classes, wrapping."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import accelerate
import pytest
import torch
import torch.distributed as dist
from accelerate.hooks import remove_hook_from_submodules
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.fsdp.wrap import ModuleWrapPolicy
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import parametrizations, parametrize, prune
from torch.optim.swa_utils import AveragedModel
from transformers import AutoModel

from inhibitor_transformers import InhibiDistilBertModel, InhibitorScalars
from inhibitor_transformers.deploy.quantize import quantize
from inhibitor_transformers.models.inhibidistilbert.modeling_inhibidistilbert import InhibiDistilBertEmbeddings
from tests.models.tiny import (
    CLASSES,
    auto_class,
    inputs_for,
    labels_for,
    outputs_of,
    same_outputs,
    save_tokenizer,
    student_class,
    tiny_config,
    tiny_student,
    tiny_teacher,
)

CPU = torch.device("cpu")
STILL = {"dropout": 0.0, "attention_dropout": 0.0, "qa_dropout": 0.0, "seq_classif_dropout": 0.0}


def quantized_student(tmp_path: Path, **settings: Any) -> Any:
    tokenizer = save_tokenizer(tmp_path / "tokenizer")
    model = tiny_student(type_vocab_size=2)
    return quantize(model, ["the old cat sees a bird", "a small fish"], tokenizer, embeddings=True, **settings)


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


class TestOffload:
    @pytest.mark.parametrize("name", CLASSES)
    def test_cpu_offload(self, name: str) -> None:
        model, inputs = tiny_student(name, type_vocab_size=2), inputs_for(name)
        for given in (inputs, {k: v for k, v in inputs.items() if k != "token_type_ids"}):
            expected = outputs_of(model, **given, output_attentions=True)
            moved = accelerate.cpu_offload(copy.deepcopy(model), execution_device=CPU, offload_buffers=True)
            assert {p.device.type for p in moved.parameters()} == {"meta"}
            assert same_outputs(outputs_of(moved, **given, output_attentions=True), expected)

    def test_disk_offload(self, tmp_path: Path) -> None:
        model, inputs = tiny_student("ForMaskedLM", type_vocab_size=2), inputs_for("ForMaskedLM")
        expected = outputs_of(model, **inputs)
        moved = accelerate.disk_offload(copy.deepcopy(model), str(tmp_path), execution_device=CPU)
        assert {p.device.type for p in moved.parameters()} == {"meta"}
        assert same_outputs(outputs_of(moved, **inputs), expected)

    @pytest.mark.parametrize(("name", "shards"), [*((name, "4KB") for name in CLASSES), ("ForMaskedLM", "1GB")])
    def test_a_device_map_with_the_disk(self, name: str, shards: str, tmp_path: Path) -> None:
        model, inputs = tiny_student(name, type_vocab_size=2), inputs_for(name)
        model.save_pretrained(tmp_path / "model", max_shard_size=shards)
        places = dict.fromkeys((part for part, _ in model.named_children()), "cpu")
        encoder = "" if name == "Model" else "distilbert."
        places.pop("distilbert", None)
        places |= {f"{encoder}embeddings": "cpu", f"{encoder}transformer": "disk"}
        loaded = auto_class(name).from_pretrained(
            tmp_path / "model", device_map=places, offload_folder=str(tmp_path / "offload")
        )
        assert loaded.base_model.transformer.layer[0].attention.inhibitor.gamma.is_meta
        assert same_outputs(outputs_of(loaded, **inputs), outputs_of(model, **inputs))
        loaded.save_pretrained(tmp_path / "again")
        again = student_class(name).from_pretrained(tmp_path / "again")
        assert same_outputs(outputs_of(again, **inputs), outputs_of(model, **inputs))

    def test_hooks_come_off_again(self) -> None:
        model, inputs = tiny_student(), inputs_for("Model")
        expected, state = outputs_of(model, **inputs), {k: v.clone() for k, v in model.state_dict().items()}
        moved = accelerate.cpu_offload(model, execution_device=CPU, state_dict=state)
        remove_hook_from_submodules(moved)
        moved.load_state_dict(state, assign=True)
        assert same_outputs(outputs_of(moved, **inputs), expected)

    @pytest.mark.parametrize("settings", [{}, {"linears": False}, {"bits": 16}])
    @pytest.mark.parametrize("buffers", [False, True])
    def test_quantized(self, buffers: bool, settings: dict[str, Any], tmp_path: Path) -> None:
        model, inputs = quantized_student(tmp_path, **settings), inputs_for("Model")
        expected = outputs_of(model, **inputs, output_attentions=True)
        moved = accelerate.cpu_offload(copy.deepcopy(model), execution_device=CPU, offload_buffers=buffers)
        assert moved.transformer.layer[0].attention.inhibitor.offset.is_meta == buffers
        for _ in range(2):
            assert same_outputs(outputs_of(moved, **inputs, output_attentions=True), expected)
        model.save_pretrained(tmp_path / "model")
        places = {"embeddings": "cpu", "transformer": "disk"}
        loaded = AutoModel.from_pretrained(
            tmp_path / "model", device_map=places, offload_folder=str(tmp_path / "disk"), offload_buffers=buffers
        )
        assert same_outputs(outputs_of(loaded, **inputs, output_attentions=True), expected)

    def test_an_offloaded_teacher_is_refused(self) -> None:
        moved = accelerate.cpu_offload(tiny_teacher("bert"), execution_device=CPU)
        with pytest.raises(ValueError, match="of the teacher is offloaded: load the teacher without a device_map"):
            InhibiDistilBertModel.from_teacher(moved)

    def test_what_is_offloaded_is_not_quantized(self, tmp_path: Path) -> None:
        moved = accelerate.cpu_offload(tiny_student(), execution_device=CPU)
        with pytest.raises(ValueError, match="is offloaded: load the model without a device_map"):
            quantize(moved, ["the old cat"], save_tokenizer(tmp_path))


class TestQuantizedState:
    def test_moves_between_live_models(self, tmp_path: Path) -> None:
        model, inputs = quantized_student(tmp_path), inputs_for("Model")
        model.save_pretrained(tmp_path / "model")
        expected = outputs_of(model, **inputs)
        for assign in (False, True):
            other = AutoModel.from_pretrained(tmp_path / "model")
            for buffer in other.buffers():
                buffer.zero_() if buffer.is_floating_point() else None
            other.load_state_dict(model.state_dict(), assign=assign)
            assert same_outputs(outputs_of(other, **inputs), expected)
        assert same_outputs(outputs_of(copy.deepcopy(model), **inputs), expected)


class TestParametrize:
    @pytest.mark.parametrize("name", ["Model", "ForSequenceClassification"])
    def test_scalars(self, name: str) -> None:
        model, inputs = tiny_student(name, type_vocab_size=2), inputs_for(name)
        expected = outputs_of(model, **inputs)
        scalars = [m for m in model.modules() if isinstance(m, InhibitorScalars)]
        for module in scalars:
            parametrize.register_parametrization(module, "gamma", Square(), unsafe=True)
        assert not same_outputs(outputs_of(model, **inputs), expected)
        for module in scalars:
            with torch.no_grad():
                module.parametrizations.gamma.original.abs_().sqrt_()
        found = outputs_of(model, **inputs)
        for module in scalars:
            parametrize.remove_parametrizations(module, "gamma")
        for key, value in outputs_of(model, **inputs).items():
            torch.testing.assert_close(found[key], value)

    def test_scalars_are_trained_through_it(self) -> None:
        model = tiny_student()
        module = model.transformer.layer[0].attention.inhibitor
        parametrize.register_parametrization(module, "gamma", Square(), unsafe=True)
        model(**inputs_for("Model")).last_hidden_state.square().sum().backward()
        assert module.parametrizations.gamma.original.grad.abs().min() > 0

    def test_projections(self, tmp_path: Path) -> None:
        model, inputs = tiny_student(), inputs_for("Model")
        expected = outputs_of(model, **inputs)
        for block in model.transformer.layer:
            parametrizations.weight_norm(block.attention.q_lin)
            parametrizations.weight_norm(block.attention.v_lin)
        for key, value in outputs_of(model, **inputs).items():
            torch.testing.assert_close(value, expected[key])
        with pytest.raises(ValueError, match=r"q_lin is not a plain Linear but Parametrized.*remove parametrizations"):
            quantize(model, ["the old cat"], save_tokenizer(tmp_path))


def test_pruned_scalars() -> None:
    """Pruning sets its masked copy in a hook before forward."""
    model, inputs = tiny_student(), inputs_for("Model")
    expected = copy.deepcopy(model)
    for block, other in zip(model.transformer.layer, expected.transformer.layer, strict=True):
        prune.custom_from_mask(block.attention.inhibitor, "delta", torch.tensor([0.0, 1.0]))
        with torch.no_grad():
            block.attention.inhibitor.delta_orig += 1.0
            other.attention.inhibitor.delta += 1.0
            other.attention.inhibitor.delta[0] = 0.0
    assert same_outputs(outputs_of(model, **inputs), outputs_of(expected, **inputs))


class Square(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * x


def test_averaged_model(tmp_path: Path) -> None:
    model, inputs = tiny_student("ForSequenceClassification"), inputs_for("ForSequenceClassification")
    averaged = AveragedModel(model)
    averaged.update_parameters(model)
    assert same_outputs(outputs_of(averaged.module, **inputs), outputs_of(model, **inputs))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 2.0
    averaged.update_parameters(model)
    inhibitor = averaged.module.distilbert.transformer.layer[0].attention.inhibitor
    trained = model.distilbert.transformer.layer[0].attention.inhibitor
    torch.testing.assert_close(inhibitor.gamma, trained.gamma - 1.0)
    averaged.module.save_pretrained(tmp_path)
    again = student_class("ForSequenceClassification").from_pretrained(tmp_path)
    assert same_outputs(outputs_of(again, **inputs), outputs_of(averaged.module, **inputs))


@pytest.fixture
def alone() -> Iterator[None]:
    """A process group of this process."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


class TestDistributed:
    """Outputs and gradients of a wrapped model are the plain model's."""

    def inputs(self) -> dict[str, Tensor]:
        return inputs_for("ForSequenceClassification") | labels_for("ForSequenceClassification")

    def model(self) -> Any:
        return tiny_student("ForSequenceClassification", type_vocab_size=2, **STILL).train()

    def test_ddp(self, alone: None) -> None:
        model, inputs = self.model(), self.inputs()
        wrapped = DistributedDataParallel(copy.deepcopy(model))
        expected, found = model(**inputs), wrapped(**inputs)
        assert torch.equal(found.logits, expected.logits)
        expected.loss.backward()
        found.loss.backward()
        assert_same_gradients(gradients(wrapped.module), gradients(model))

    @pytest.mark.parametrize("units", ["blocks", "embeddings", "scalars", "every module"])
    def test_fully_shard(self, units: str, alone: None) -> None:
        model, inputs = self.model(), self.inputs()
        sharded = copy.deepcopy(model)
        blocks = list(sharded.distilbert.transformer.layer)
        chosen = {
            "blocks": blocks,
            "embeddings": [sharded.distilbert.embeddings],
            "scalars": [block.attention.inhibitor for block in blocks],
            "every module": [m for m in sharded.modules() if list(m.parameters(recurse=False))],
        }[units]
        for module in chosen:
            fully_shard(module, reshard_after_forward=True, mesh=mesh())
        fully_shard(sharded, mesh=mesh())
        expected, found = model(**inputs), sharded(**inputs)
        assert torch.equal(found.logits, expected.logits)
        expected.loss.backward()
        found.loss.backward()
        assert_same_gradients({n: g.full_tensor() for n, g in gradients(sharded).items()}, gradients(model))

    def test_a_sharded_model_is_saved_with_the_guard(self, alone: None, tmp_path: Path) -> None:
        model, inputs = self.model().eval(), inputs_for("ForSequenceClassification")
        expected = outputs_of(model, **inputs)
        for block in model.distilbert.transformer.layer:
            fully_shard(block, mesh=mesh())
        fully_shard(model, mesh=mesh())
        state = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True))
        model.save_pretrained(tmp_path, state_dict=state)
        weights = load_file(tmp_path / "model.safetensors")
        assert weights["distilbert.transformer.layer.0.attention.q_lin.weight"].dim() == 3
        again = student_class("ForSequenceClassification").from_pretrained(tmp_path)
        assert same_outputs(outputs_of(again, **inputs), expected)

    def test_fully_shard_in_half_precision(self, alone: None) -> None:
        """Scalars stay float32, and a unit has one dtype: they are units of their own."""
        model, inputs = self.model().bfloat16(), self.inputs()
        for block in model.distilbert.transformer.layer:
            block.attention.inhibitor.float()
        sharded = copy.deepcopy(model)
        for block in sharded.distilbert.transformer.layer:
            fully_shard(block.attention.inhibitor, mesh=mesh())
            fully_shard(block, mesh=mesh())
        fully_shard(sharded, mesh=mesh())
        expected, found = model(**inputs), sharded(**inputs)
        assert torch.equal(found.logits, expected.logits)
        expected.loss.backward()
        found.loss.backward()
        assert_same_gradients({n: g.full_tensor() for n, g in gradients(sharded).items()}, gradients(model))

    def test_fsdp(self, alone: None) -> None:
        model, inputs = self.model(), self.inputs()
        policy = ModuleWrapPolicy({InhibitorScalars, InhibiDistilBertEmbeddings, nn.Linear})
        wrapped = FullyShardedDataParallel(
            copy.deepcopy(model), auto_wrap_policy=policy, device_id=CPU, use_orig_params=True
        )
        expected, found = model(**inputs), wrapped(**inputs)
        torch.testing.assert_close(found.logits, expected.logits)
        expected.loss.backward()
        found.loss.backward()


def mesh() -> Any:
    return dist.init_device_mesh("cpu", (1,))


def assert_same_gradients(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, msg=name)


class TestGradientCheckpointing:
    @pytest.mark.parametrize("way", ["config", "enable", "reentrant"])
    @pytest.mark.parametrize("name", CLASSES)
    def test_the_gradients_are_the_same(self, name: str, way: str) -> None:
        plain = student_class(name)(tiny_config(type_vocab_size=2, **STILL))
        model = student_class(name)(tiny_config(type_vocab_size=2, **STILL, gradient_checkpointing=way == "config"))
        if way != "config":
            model.gradient_checkpointing_enable({"use_reentrant": way == "reentrant"})
        model.load_state_dict(plain.state_dict())
        assert [block.gradient_checkpointing for block in model.base_model.transformer.layer] == [True, True]
        calls: list[int] = []
        attention = model.base_model.transformer.layer[0].attention
        attention.register_forward_hook(lambda *_: calls.append(1))
        inputs = inputs_for(name) | labels_for(name)
        for each in (plain, model):
            output = each.train()(**inputs)
            (output.last_hidden_state.square().sum() if name == "Model" else output.loss).backward()
        assert len(calls) == 2  # forward, and again in the backward pass
        found, expected = gradients(model), gradients(plain)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key], gradient) for key, gradient in expected.items())

    def test_off_by_default_and_not_saved(self, tmp_path: Path) -> None:
        model = student_class("ForMaskedLM")(tiny_config(gradient_checkpointing=True))
        assert model.is_gradient_checkpointing
        model.save_pretrained(tmp_path)
        assert not student_class("ForMaskedLM").from_pretrained(tmp_path).is_gradient_checkpointing
