"""The trainer: groups of parameters, logs that add up, accumulation that changes nothing, and a stop at NaN."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import TrainerCallback, TrainingArguments

from inhibitor_transformers.attention import InhibitorScalars
from inhibitor_transformers.distill.data import unpack
from inhibitor_transformers.distill.losses import squared_error
from inhibitor_transformers.distill.pairing import EncoderPairing
from inhibitor_transformers.distill.stages.align_attention import AttentionOutputLoss
from inhibitor_transformers.distill.stages.align_hidden import HiddenStateLoss
from inhibitor_transformers.distill.training.trainer import DistillationTrainer, NonFiniteLossError
from inhibitor_transformers.models import InhibiDistilBertModel
from tests.distill.tiny import bert_tokenizer, equal_variances, narrow_student, padded_batch, pair, saved

EQUAL = {AttentionOutputLoss: lambda layer_map: [1.0] * len(layer_map), HiddenStateLoss: equal_variances}


def trainer(
    student: InhibiDistilBertModel,
    criterion: Any,
    folder: Path,
    items: list[dict[str, Tensor]],
    *,
    factor: float = 1.0,
    dropout: bool = True,
    callbacks: list[TrainerCallback] | None = None,
    **settings: Any,
) -> DistillationTrainer:
    """A trainer that takes `items`, each a whole batch, in order."""
    fields = {
        "per_device_train_batch_size": 1,
        "max_steps": len(items) // settings.get("gradient_accumulation_steps", 1),
        "train_sampling_strategy": "sequential",
        "remove_unused_columns": False,
        "save_strategy": "no",
        "logging_steps": 1,
        "disable_tqdm": True,
        "use_cpu": True,
        "report_to": "none",
        "lr_scheduler_type": "constant",
        "learning_rate": 1e-3,
    }
    return DistillationTrainer(
        model=student,
        args=TrainingArguments(output_dir=str(folder), **(fields | settings)),
        train_dataset=items,
        data_collator=unpack,
        processing_class=bert_tokenizer(),
        criterion=criterion,
        scalar_learning_rate_factor=factor,
        dropout=dropout,
        callbacks=callbacks,
    )


def losses_of(logs: list[dict[str, float]]) -> list[dict[str, float]]:
    """The logs of training: {"loss": …, "loss/term": …, "step": …} each."""
    return [log for log in logs if "loss" in log]


BATCHES = [padded_batch([9, 14, 11, 20], seed=i) for i in range(6)]


@pytest.fixture
def setup():
    """A student, its attention-output loss and its hidden-state loss."""
    student, teacher, layer_map = pair()
    return (
        student,
        AttentionOutputLoss(EncoderPairing(student, teacher, layer_map), [1.0, 1.0]),
        HiddenStateLoss(EncoderPairing(student, teacher, layer_map), equal_variances(layer_map)),
    )


class TestParameterGroups:
    def test_scalars_have_their_own_rate_and_no_decay(self, setup, tmp_path):
        student, _, criterion = setup
        made = trainer(student, criterion, tmp_path, BATCHES, factor=7.0, weight_decay=0.1)
        names = {p: name for name, p in student.named_parameters()}
        decaying, plain, scalars = (
            ({names[p] for p in group["params"]}, group["lr"], group["weight_decay"])
            for group in made.create_optimizer().param_groups
        )
        expected = {name for name in names.values() if ".inhibitor." in name}
        assert scalars == (expected, pytest.approx(7e-3), 0.0)
        assert (decaying[1:], plain[1:]) == ((1e-3, 0.1), (1e-3, 0.0))
        assert all(name.endswith("weight") and "norm" not in name.lower() for name in decaying[0])
        assert all(name.endswith("bias") or "norm" in name.lower() for name in plain[0])

    def test_everything_that_is_trained_is_in_one_group(self, setup, tmp_path):
        student, _, criterion = setup
        student.embeddings.requires_grad_(False)
        groups = trainer(student, criterion, tmp_path, BATCHES).create_optimizer().param_groups
        found = [p for group in groups for p in group["params"]]
        assert len(found) == len(set(found))
        assert set(found) == {p for p in student.parameters() if p.requires_grad}

    def test_modules_of_the_loss_are_trained_along(self, setup, tmp_path):
        _, _, same_width = setup
        student = narrow_student()
        criterion = HiddenStateLoss(
            EncoderPairing(student, same_width.pairing.teacher, same_width.pairing.layer_map),
            equal_variances(same_width.pairing.layer_map),
        )
        before = [p.clone() for p in criterion.parameters()]
        trainer(student, criterion, tmp_path, BATCHES).train()
        assert len(before) == 4
        assert not any(torch.equal(a, b) for a, b in zip(before, criterion.parameters(), strict=True))

    def test_a_model_without_scalars_has_no_empty_group(self, tmp_path):
        from tests.distill.tiny import bert

        groups = trainer(bert(), lambda *_: {}, tmp_path, BATCHES).create_optimizer().param_groups
        assert len(groups) == 2

    def test_the_factor_is_the_ratio_of_the_steps_taken(self, tmp_path):
        moved = {}
        for factor in (0.0, 1.0, 5.0):
            student, teacher, layer_map = pair()
            criterion = HiddenStateLoss(EncoderPairing(student, teacher, layer_map), equal_variances(layer_map))
            scalars = [p for m in student.modules() if isinstance(m, InhibitorScalars) for p in m.parameters()]
            before = [p.detach().clone() for p in scalars]
            trainer(student, criterion, tmp_path, BATCHES[:1], factor=factor, optim="sgd", max_grad_norm=0.0).train()
            moved[factor] = torch.cat([(p - b).detach() for p, b in zip(scalars, before, strict=True)])
        assert not moved[0.0].any()
        torch.testing.assert_close(moved[5.0], 5 * moved[1.0], rtol=1e-3, atol=1e-6)


class TestLogs:
    def test_every_term_is_logged_and_they_add_up_to_the_loss(self, setup, tmp_path):
        student, criterion, _ = setup
        made = trainer(student, criterion, tmp_path, BATCHES)
        made.train()
        logs = losses_of(made.state.log_history)
        assert [log["step"] for log in logs] == [1, 2, 3, 4, 5, 6]
        for log in logs:
            terms = [log[f"loss/attention/layer_{i}"] for i in range(2)]
            assert sum(terms) == pytest.approx(log["loss"], rel=1e-5)

    def test_a_log_holds_the_mean_of_its_steps(self, tmp_path):
        def run(logging_steps: int) -> list[dict[str, float]]:
            student, teacher, layer_map = pair()
            criterion = AttentionOutputLoss(EncoderPairing(student, teacher, layer_map), [1.0, 1.0])
            made = trainer(student, criterion, tmp_path, BATCHES, logging_steps=logging_steps)
            made.train()
            return losses_of(made.state.log_history)

        each, every_third = run(1), run(3)
        assert [log["step"] for log in every_third] == [3, 6]
        for key in ("loss", "loss/attention/layer_0", "loss/attention/layer_1"):
            means = [sum(log[key] for log in each[i : i + 3]) / 3 for i in (0, 3)]
            assert [log[key] for log in every_third] == pytest.approx(means, rel=1e-5)

    def test_terms_still_add_up_after_a_resume(self, tmp_path):
        """The first log after a resume once divided the sums of a few steps by all steps since the start."""

        def run(checkpoint: str | None) -> list[dict[str, float]]:
            student, teacher, layer_map = pair()
            criterion = AttentionOutputLoss(EncoderPairing(student, teacher, layer_map), [1.0, 1.0])
            settings = {"logging_steps": 2, "save_strategy": "steps", "save_steps": 4}
            made = trainer(student, criterion, tmp_path, BATCHES, **settings)
            made.train(resume_from_checkpoint=checkpoint)
            return losses_of(made.state.log_history)

        whole, resumed = run(None), run(str(tmp_path / "checkpoint-4"))
        assert [log["step"] for log in resumed] == [2, 4, 6]
        keys = ("loss", "loss/attention/layer_0", "loss/attention/layer_1")
        assert [[log[k] for k in keys] for log in resumed] == [[log[k] for k in keys] for log in whole]


class Gradients(TrainerCallback):
    """Keeps the gradients of every step, before the optimizer uses them."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Tensor]] = []

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs) -> None:
        self.steps.append({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})


def split(batch: dict[str, Tensor], parts: int) -> list[dict[str, Tensor]]:
    chunks = {name: tensor.chunk(parts) for name, tensor in batch.items()}
    return [{name: chunks[name][i] for name in batch} for i in range(parts)]


@pytest.mark.parametrize("kind", [AttentionOutputLoss, HiddenStateLoss])
def test_accumulation_gives_the_same_losses_gradients_and_weights(kind, tmp_path):
    """Rows have unequal numbers of tokens, so a mean of the parts' means would be another number."""
    batches = [padded_batch([9, 14, 11, 20, 8, 17, 13, 10], seed=i) for i in range(3)]

    def run(accumulation: int) -> tuple[list[dict[str, float]], list[dict[str, Tensor]]]:
        student, teacher, layer_map = pair()
        items = [part for batch in batches for part in split(batch, accumulation)]
        gradients = Gradients()
        settings = {"gradient_accumulation_steps": accumulation, "optim": "sgd", "max_grad_norm": 0.0}
        criterion = kind(EncoderPairing(student, teacher, layer_map), EQUAL[kind](layer_map))
        made = trainer(student, criterion, tmp_path, items, callbacks=[gradients], **settings)
        made.train()
        return losses_of(made.state.log_history), [*gradients.steps, student.state_dict()]

    losses, tensors = run(1)
    for accumulation in (4, 8):
        their_losses, their_tensors = run(accumulation)
        assert len(losses) == len(their_losses) == 3
        for a, b in zip(losses, their_losses, strict=True):
            terms = [key for key in a if key.startswith("loss")]
            assert len(terms) == 3
            assert [b[key] for key in terms] == pytest.approx([a[key] for key in terms], rel=1e-4)
        for a, b in zip(tensors, their_tensors, strict=True):
            assert a.keys() == b.keys()
            for name in a:
                torch.testing.assert_close(b[name], a[name], rtol=1e-3, atol=1e-5)


class TestDropout:
    def losses(self, folder: Path, *, dropout: bool) -> list[float]:
        student, teacher, layer_map = pair()
        for module in student.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.5
        criterion = HiddenStateLoss(EncoderPairing(student, teacher, layer_map), equal_variances(layer_map))
        made = trainer(student, criterion, folder, [BATCHES[0]] * 2, dropout=dropout, learning_rate=0.0)
        made.train()
        return [log["loss"] for log in losses_of(made.state.log_history)]

    def test_off_it_is_the_loss_in_evaluation_mode(self, setup, tmp_path):
        student, _, criterion = setup
        with torch.no_grad():
            terms = criterion(student, BATCHES[0], float(BATCHES[0]["attention_mask"].sum()))
        expected = sum(term.item() for term in terms.values())
        assert self.losses(tmp_path, dropout=False) == pytest.approx([expected] * 2, rel=1e-5)

    def test_on_it_differs_from_step_to_step(self, tmp_path):
        first, second = self.losses(tmp_path, dropout=True)
        assert first != pytest.approx(second, rel=1e-3)


@pytest.mark.parametrize("kind", [AttentionOutputLoss, HiddenStateLoss])
def test_under_bf16_student_and_teacher_compute_in_it(kind, tmp_path):
    """Autocast once reached what went through the student's own forward only: not a stage that calls its layers."""

    def run(bf16: bool) -> tuple[list[float], set[torch.dtype], set[torch.dtype]]:
        student, teacher, layer_map = pair()
        criterion = kind(EncoderPairing(student, teacher, layer_map), EQUAL[kind](layer_map))
        ours, theirs = set(), set()
        student.transformer.layer[0].attention.q_lin.register_forward_hook(lambda *a: ours.add(a[-1].dtype))
        teacher.model.encoder.layer[0].attention.self.query.register_forward_hook(lambda *a: theirs.add(a[-1].dtype))
        made = trainer(student, criterion, tmp_path, BATCHES, bf16=bf16)
        made.train()
        return [log["loss"] for log in losses_of(made.state.log_history)], ours, theirs

    exact, rounded = run(bf16=False), run(bf16=True)
    assert exact[1:] == ({torch.float32}, {torch.float32})
    assert rounded[1:] == ({torch.bfloat16}, {torch.bfloat16})
    assert rounded[0] == pytest.approx(exact[0], rel=0.05)
    assert rounded[0] != exact[0]


@pytest.mark.parametrize(("bf16", "lacks"), [(True, True), (True, False), (False, True)])
def test_warns_of_bf16_only_where_the_processor_has_none(bf16, lacks, tmp_path, monkeypatch, recwarn):
    monkeypatch.setattr("inhibitor_transformers.distill.training.arguments.lacks_bfloat16", lambda: lacks)
    student, teacher, layer_map = pair()
    trainer(
        student,
        AttentionOutputLoss(EncoderPairing(student, teacher, layer_map), [1.0] * len(layer_map)),
        tmp_path,
        BATCHES,
        bf16=bf16,
    )
    told = [str(w.message) for w in recwarn if "no instructions for bfloat16" in str(w.message)]
    assert len(told) == int(bf16 and lacks)


class FailsAt:
    """An attention-output loss of which one term becomes NaN (or another value) at a step."""

    def __init__(self, criterion: AttentionOutputLoss, step: int, terms: tuple[str, ...], value: float) -> None:
        self.criterion, self.step, self.terms, self.value, self.calls = criterion, step, terms, value, 0

    def __call__(self, model, batch, count):
        self.calls += 1
        terms = self.criterion(model, batch, count)
        if self.calls == self.step:
            terms |= {name: terms[name] * 0 + self.value for name in self.terms}
        return terms


class TestNonFiniteLoss:
    def stop(self, folder: Path, terms: tuple[str, ...], value: float) -> tuple[str, InhibiDistilBertModel]:
        student, teacher, layer_map = pair()
        criterion = FailsAt(
            AttentionOutputLoss(EncoderPairing(student, teacher, layer_map), [1.0, 1.0]), 3, terms, value
        )
        with pytest.raises(NonFiniteLossError) as stopped:
            trainer(student, criterion, folder, BATCHES).train()
        return str(stopped.value), student

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_it_names_term_layer_and_step_and_keeps_the_weights(self, value, tmp_path):
        message, student = self.stop(tmp_path, ("attention/layer_1",), value)
        kept = tmp_path / "stopped-before-step-3"
        assert message == f"loss is not finite at step 3: attention/layer_1; the weights before that step are in {kept}"
        loaded = InhibiDistilBertModel.from_pretrained(kept)
        expected = student.state_dict()
        assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded.state_dict().items())

    def test_the_kept_weights_are_those_of_the_steps_before(self, tmp_path):
        self.stop(tmp_path / "stopped", ("attention/layer_0",), float("nan"))
        student, teacher, layer_map = pair()
        criterion = AttentionOutputLoss(EncoderPairing(student, teacher, layer_map), [1.0, 1.0])
        trainer(student, criterion, tmp_path / "whole", BATCHES[:2]).train()
        loaded = InhibiDistilBertModel.from_pretrained(tmp_path / "stopped" / "stopped-before-step-3").state_dict()
        assert all(torch.equal(tensor, loaded[name]) for name, tensor in student.state_dict().items())

    def test_every_wrong_term_is_named(self, tmp_path):
        message, _ = self.stop(tmp_path, ("attention/layer_0", "attention/layer_1"), float("nan"))
        assert "at step 3: attention/layer_0, attention/layer_1;" in message

    def test_terms_that_overflow_together_are_told_so(self, tmp_path):
        message, _ = self.stop(tmp_path, ("attention/layer_0", "attention/layer_1"), 3e38)
        assert "at step 3: the sum of all terms;" in message

    def test_it_is_an_arithmetic_error(self):
        assert issubclass(NonFiniteLossError, FloatingPointError)

    def test_weights_that_are_not_finite_are_not_kept(self, tmp_path):
        student, teacher, layer_map = pair()
        criterion = AttentionOutputLoss(EncoderPairing(student, teacher, layer_map), [1.0, 1.0])
        with torch.no_grad():
            student.transformer.layer[0].attention.q_lin.weight[0, 0] = float("nan")
        with pytest.raises(NonFiniteLossError, match="step 1: attention/layer_0; the weights are not finite any more"):
            trainer(student, criterion, tmp_path, BATCHES).train()
        assert list(tmp_path.glob("stopped-*")) == []

    def test_no_checkpoint_with_nan_is_written(self, tmp_path):
        """A gradient can be NaN where the loss is not: the step then ruins the weights that would be saved."""

        class RootOfZero(nn.Module):
            def forward(self, model, batch, count):
                hidden = model(batch["input_ids"]).last_hidden_state
                valid = torch.ones(hidden.shape[:2], dtype=torch.bool)
                return {"root": squared_error(hidden, hidden.detach(), valid, count).sqrt()}

        student, *_ = pair()
        settings = {"save_strategy": "steps", "save_steps": 1}
        with pytest.raises(NonFiniteLossError, match="the weights are not finite after step 1"):
            trainer(student, RootOfZero(), tmp_path, BATCHES, **settings).train()
        assert list(tmp_path.glob("checkpoint-*/model.safetensors")) == []


class TestCheckpoints:
    def test_a_checkpoint_is_a_student_that_loads(self, setup, tmp_path):
        student, criterion, _ = setup
        trainer(student, criterion, tmp_path, BATCHES, save_strategy="steps", save_steps=6).train()
        loaded = InhibiDistilBertModel.from_pretrained(tmp_path / "checkpoint-6")
        assert all(torch.equal(p, student.state_dict()[name]) for name, p in loaded.state_dict().items())

    def test_projections_are_resumed_with_their_student(self, setup, tmp_path):
        """They are no part of the student: a resumed run went on with new ones, and gradients were never emptied."""
        _, _, same_width = setup

        def run(folder: Path, checkpoint: str | None) -> list[Tensor]:
            torch.manual_seed(3 if checkpoint else 2)
            student = narrow_student()
            torch.manual_seed(5 if checkpoint else 4)
            criterion = HiddenStateLoss(
                EncoderPairing(student, same_width.pairing.teacher, same_width.pairing.layer_map),
                equal_variances(same_width.pairing.layer_map),
            )
            settings = {"save_strategy": "steps", "save_steps": 3}
            trainer(student, criterion, folder, BATCHES, **settings).train(resume_from_checkpoint=checkpoint)
            return [*student.state_dict().values(), *criterion.state_dict().values()]

        whole = run(tmp_path, None)
        resumed = run(tmp_path, str(tmp_path / "checkpoint-3"))
        assert len(whole) == len(resumed)
        assert all(torch.equal(a, b) for a, b in zip(whole, resumed, strict=True))

    def test_a_loss_without_modules_leaves_no_file(self, setup, tmp_path):
        student, _, criterion = setup
        trainer(student, criterion, tmp_path, BATCHES, save_strategy="steps", save_steps=6).train()
        assert not (tmp_path / "checkpoint-6" / "loss.safetensors").exists()


def test_evaluation_uses_the_model_s_own_loss(tmp_path):
    from inhibitor_transformers.models import InhibiDistilBertForSequenceClassification

    student, *_ = pair(InhibiDistilBertForSequenceClassification)
    batch = padded_batch([9, 14]) | {"labels": torch.tensor([0, 1])}
    made = trainer(student, lambda *_: {"wrong": torch.tensor(1e9)}, tmp_path, BATCHES)
    found = made.evaluate([batch])["eval_loss"]
    with torch.no_grad():
        assert found == pytest.approx(student(**batch).loss.item(), rel=1e-5)


def test_loaded_students_train_as_those_made_from_the_teacher(setup, tmp_path):
    student, *_ = setup
    path = saved(student, tmp_path / "student")
    loaded = InhibiDistilBertModel.from_pretrained(path)
    assert [n for n, p in loaded.named_parameters() if p.requires_grad] == [n for n, _ in student.named_parameters()]
