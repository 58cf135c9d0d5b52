"""Every objective against a computation by hand: row by row without padding, from the definition."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from transformers import BertForMaskedLM, BertForSequenceClassification

from inhibitor_transformers.distill.objectives import (
    AttentionOutputLoss,
    HiddenStateLoss,
    MaskedLMLoss,
    TaskLoss,
)
from inhibitor_transformers.distill.stages.errors import attention_output_errors
from inhibitor_transformers.distill.teacher.teacher import Teacher
from inhibitor_transformers.distill.variances import (
    HiddenVariances,
    attention_output_mean_squares,
    first_tokens,
    hidden_variances,
)
from inhibitor_transformers.models import (
    InhibiDistilBertConfig,
    InhibiDistilBertForMaskedLM,
    InhibiDistilBertForSequenceClassification,
    InhibiDistilBertModel,
    map_layers,
)
from tests.distill.formula import context
from tests.distill.tiny import HEADS, LAYERS, VOCABULARY, bert, equal_variances, padded_batch, pair

ROWS = [9, 14, 11]


def rows_of(batch: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """Each row as a batch of its own, cut to its tokens."""
    rows = []
    for i, n in enumerate(batch["attention_mask"].sum(1).tolist()):
        inputs = {name: tensor[i : i + 1, :n] for name, tensor in batch.items() if tensor.dim() == 2}
        rows.append(inputs | {name: tensor[i : i + 1] for name, tensor in batch.items() if tensor.dim() == 1})
    return rows


def squared(a: Tensor, b: Tensor) -> float:
    """Σ over tokens of the mean squared difference."""
    return float((a.double() - b.double()).square().mean(-1).sum())


def with_other_padding(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return batch | {"input_ids": batch["input_ids"].masked_fill(batch["attention_mask"] == 0, 17)}


def total(terms: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(terms.values())).sum()


class TestContextObjective:
    @pytest.mark.parametrize("layers", ["all", [1]])
    def test_by_hand(self, layers):
        student, teacher, layer_map = pair(layers=layers)
        batch, variances = padded_batch(ROWS), [2.0, 5.0][: len(layer_map)]
        terms = AttentionOutputLoss(student, teacher, layer_map, variances)(student, batch, 20.0)
        assert list(terms) == [f"attention/layer_{i}" for i in range(len(layer_map))]
        for i, source in enumerate(layer_map.teacher_layers):
            attention, error = student.transformer.layer[i].attention, 0.0
            for row in rows_of(batch):
                teacher_outputs = teacher(row, attention_outputs=True, hidden=True)
                error += squared(
                    context(attention, teacher_outputs.hidden[source]).detach(),
                    teacher_outputs.attention_outputs[source],
                )
            assert terms[f"attention/layer_{i}"].item() == pytest.approx(error / 20 / variances[i], rel=1e-4)

    def test_what_stands_in_padding_does_not_matter(self):
        student, teacher, layer_map = pair()
        criterion, batch = AttentionOutputLoss(student, teacher, layer_map, [1.0, 1.0]), padded_batch(ROWS)
        first, second = criterion(student, batch, 34.0), criterion(student, with_other_padding(batch), 34.0)
        assert all(torch.equal(first[name], second[name]) for name in first)

    def test_each_layer_trains_its_own_q_k_v_and_scalars(self):
        student, teacher, layer_map = pair()
        terms = AttentionOutputLoss(student, teacher, layer_map, [1.0, 1.0])(student, padded_batch(ROWS), 34.0)
        for i, term in enumerate(terms.values()):
            student.zero_grad()
            term.backward()
            got = {name for name, p in student.named_parameters() if p.grad is not None and p.grad.any()}
            expected = {f"{part}_lin.{kind}" for part in "qkv" for kind in ("weight", "bias")}
            expected |= {f"inhibitor.{name}" for name in ("gamma", "delta", "eta", "length_exponent")}
            assert got == {f"transformer.layer.{i}.attention.{name}" for name in expected}

    def test_parts_of_a_batch_with_the_count_of_the_whole_add_up(self):
        student, teacher, layer_map = pair()
        criterion, batch = AttentionOutputLoss(student, teacher, layer_map, [1.0, 1.0]), padded_batch(ROWS)
        whole = criterion(student, batch, 34.0)
        parts = [criterion(student, row, 34.0) for row in rows_of(batch)]
        for name, term in whole.items():
            assert term.item() == pytest.approx(sum(part[name].item() for part in parts), rel=1e-4)

    def test_no_hook_is_left_behind(self):
        student, teacher, layer_map = pair()
        AttentionOutputLoss(student, teacher, layer_map, [1.0, 1.0])(student, padded_batch(ROWS), 34.0)
        assert not any(module._forward_pre_hooks for model in (student, teacher.model) for module in model.modules())


class TestHiddenObjective:
    @pytest.mark.parametrize("layers", ["all", [1]])
    def test_by_hand(self, layers):
        student, teacher, layer_map = pair(layers=layers)
        batch = padded_batch(ROWS)
        variances = HiddenVariances(
            [torch.rand(32) + 0.5 for _ in range(len(layer_map))], [3.0, 7.0][: len(layer_map)], 5.0
        )
        weights = {"cls_weight": 4.0, "pooled_weight": 8.0}
        terms = HiddenStateLoss(student, teacher, layer_map, variances, **weights)(student, batch, 20.0)
        of_layers = [f"{kind}/layer_{i}" for kind in ("hidden", "first") for i in range(len(layer_map))]
        assert sorted(terms) == sorted([*of_layers, "text"])
        for i, source in enumerate(layer_map.teacher_layers):
            error = first = text = 0.0
            for row in rows_of(batch):
                with torch.no_grad():
                    ours = student(row["input_ids"], output_hidden_states=True).hidden_states[i + 1]
                    theirs = teacher.model(row["input_ids"], output_hidden_states=True).hidden_states[source + 1]
                error += float(((ours.double() - theirs).square() / variances.tokens[i]).mean(-1).sum())
                first += squared(ours[:, :1], theirs[:, :1])
                text += squared(ours.mean(1, keepdim=True), theirs.mean(1, keepdim=True))
            assert terms[f"hidden/layer_{i}"].item() == pytest.approx(error / 20, rel=1e-4)
            assert terms[f"first/layer_{i}"].item() == pytest.approx(4 * first / 20 / variances.first[i], rel=1e-4)
        assert terms["text"].item() == pytest.approx(8 * text / 20 / variances.text, rel=1e-4)  # of the last layer

    def test_without_the_first_token(self):
        student, teacher, layer_map = pair()
        terms = HiddenStateLoss(student, teacher, layer_map, equal_variances(layer_map))(
            student, padded_batch(ROWS), 34.0
        )
        assert list(terms) == ["hidden/layer_0", "hidden/layer_1"]

    def test_what_stands_in_padding_does_not_matter(self):
        student, teacher, layer_map = pair()
        criterion = HiddenStateLoss(student, teacher, layer_map, equal_variances(layer_map), 2.0, 3.0)
        batch = padded_batch(ROWS)
        first, second = criterion(student, batch, 34.0), criterion(student, with_other_padding(batch), 34.0)
        assert all(torch.equal(first[name], second[name]) for name in first)

    def test_the_whole_student_is_trained(self):
        student, teacher, layer_map = pair()
        total(
            HiddenStateLoss(student, teacher, layer_map, equal_variances(layer_map))(student, padded_batch(ROWS), 34.0)
        ).backward()
        assert [name for name, p in student.named_parameters() if p.grad is None] == []

    def test_of_equal_widths_nothing_is_learned_along(self):
        student, teacher, layer_map = pair()
        assert list(HiddenStateLoss(student, teacher, layer_map, equal_variances(layer_map)).parameters()) == []

    def test_of_different_widths_a_projection_per_layer_is_learned_along(self):
        teacher = Teacher(bert())
        student, layer_map = narrow_student(), map_layers("all", LAYERS)
        criterion = HiddenStateLoss(student, teacher, layer_map, equal_variances(layer_map))
        total(criterion(student, padded_batch(ROWS), 34.0)).backward()
        weights = dict(criterion.named_parameters())
        assert {name: tuple(p.shape) for name, p in weights.items()} == {
            f"projections.{i}.{kind}": shape
            for i in range(LAYERS)
            for kind, shape in [("weight", (32, 16)), ("bias", (32,))]
        }
        assert all(p.grad is not None and p.grad.any() for p in weights.values())

    def test_the_teacher_is_no_part_of_it(self):
        _, teacher, layer_map = pair()
        criterion = HiddenStateLoss(narrow_student(), teacher, layer_map, equal_variances(layer_map)).train()
        assert not teacher.model.training
        assert all(name.startswith("projections.") for name in criterion.state_dict())


def narrow_student() -> InhibiDistilBertModel:
    """Half as wide as its teacher."""
    torch.manual_seed(1)
    sizes = {"dim": 16, "hidden_dim": 24, "n_heads": HEADS, "n_layers": LAYERS, "max_position_embeddings": 160}
    return InhibiDistilBertModel(InhibiDistilBertConfig(vocab_size=len(VOCABULARY), dropout=0.0, **sizes)).eval()


def masked_batch(lengths: list[int], positions: Sequence[tuple[int, int]]) -> dict[str, Tensor]:
    """A padded batch in which the tokens at `positions` (row, column) are hidden behind the mask token."""
    batch = padded_batch(lengths)
    labels = torch.full_like(batch["input_ids"], -100)
    for row, column in positions:
        labels[row, column] = batch["input_ids"][row, column]
        batch["input_ids"][row, column] = 4
    return batch | {"labels": labels}


class TestMaskedLMObjective:
    POSITIONS = ((0, 3), (0, 5), (1, 2), (1, 13), (2, 10))

    @pytest.fixture
    def models(self):
        model = bert(BertForMaskedLM)
        return InhibiDistilBertForMaskedLM.from_teacher(model), Teacher(model)

    def criterion(self, teacher, **settings):
        weights = {"temperature": 2.0, "alpha_ce": 5.0, "alpha_mlm": 3.0, "alpha_cos": 2.0}
        return MaskedLMLoss(teacher, **(weights | settings))

    def test_by_hand_at_the_masked_positions_alone(self, models):
        student, teacher = models
        batch = masked_batch(ROWS, self.POSITIONS)
        terms = self.criterion(teacher)(student, batch, 7.0)
        soft = hard = cosine = 0.0
        for row, column in self.POSITIONS:
            n = ROWS[row]
            ids = batch["input_ids"][row : row + 1, :n]
            with torch.no_grad():
                ours, theirs = (m(ids, output_hidden_states=True) for m in (student, teacher.model))
            s, t = ours.logits[0, column].double(), theirs.logits[0, column].double()
            p = (t / 2).softmax(-1)
            soft += 4 * float((p * ((t / 2).log_softmax(-1) - (s / 2).log_softmax(-1))).sum())
            hard -= float(s.log_softmax(-1)[batch["labels"][row, column]])
            a, b = ours.hidden_states[-1][0, column].double(), theirs.hidden_states[-1][0, column].double()
            cosine += 1 - float(a @ b / (a.norm() * b.norm()))
        expected = {"soft_targets": 5 * soft / 7, "masked_lm": 3 * hard / 7, "cosine": 2 * cosine / 7}
        assert {name: term.item() for name, term in terms.items()} == pytest.approx(expected, rel=1e-4)

    def test_a_label_more_is_a_term_more(self, models):
        student, teacher = models
        criterion = self.criterion(teacher)
        one = masked_batch([12], [(0, 4)])
        two = one | {"labels": one["labels"].clone()}
        two["labels"][0, 8] = two["input_ids"][0, 8]  # a position that keeps its token, 10 % of the chosen
        extra = two | {"labels": two["labels"].clone()}
        extra["labels"][0, 4] = -100
        sums = [{n: t.item() for n, t in criterion(student, b, 1.0).items()} for b in (one, extra, two)]
        assert {n: sums[0][n] + sums[1][n] for n in sums[0]} == pytest.approx(sums[2], rel=1e-5)

    def test_what_stands_in_padding_does_not_matter(self, models):
        student, teacher = models
        batch = masked_batch(ROWS, self.POSITIONS)
        criterion = self.criterion(teacher)
        first, second = criterion(student, batch, 5.0), criterion(student, with_other_padding(batch), 5.0)
        assert all(torch.equal(first[name], second[name]) for name in first)

    def test_nothing_reaches_the_teacher(self, models):
        student, teacher = models
        total(self.criterion(teacher)(student, masked_batch(ROWS, self.POSITIONS), 5.0)).backward()
        assert all(p.grad is None for p in teacher.model.parameters())
        assert [name for name, p in student.named_parameters() if p.grad is None] == []

    def test_the_teacher_is_in_evaluation_mode_whoever_called_train(self):
        model = bert(BertForMaskedLM, hidden_dropout_prob=0.5)
        student, teacher = InhibiDistilBertForMaskedLM.from_teacher(model, dropout=0.0), Teacher(model)
        batch, criterion = masked_batch(ROWS, self.POSITIONS), self.criterion(Teacher(model))
        first = criterion(student, batch, 5.0)
        teacher.model.train()
        second = criterion(student, batch, 5.0)
        assert all(torch.equal(first[name], second[name]) for name in first)


class TestTaskObjective:
    LABELS = torch.tensor([1, 0, 2])

    def models(self, num_labels: int = 3):
        model = bert(BertForSequenceClassification, num_labels=num_labels)
        student = InhibiDistilBertForSequenceClassification.from_teacher(model)
        return student, Teacher(model)

    def test_without_a_teacher_it_is_the_model_s_own_loss(self):
        student, _ = self.models()
        batch = padded_batch(ROWS) | {"labels": self.LABELS}
        terms = TaskLoss(regression=False)(student, batch, 3)
        assert list(terms) == ["task"]
        with torch.no_grad():
            own = student(batch["input_ids"], attention_mask=batch["attention_mask"], labels=self.LABELS).loss
        assert terms["task"].item() == pytest.approx(float(own), rel=1e-6)

    def test_with_a_teacher_by_hand(self):
        student, teacher = self.models()
        batch = padded_batch(ROWS) | {"labels": self.LABELS}
        criterion = TaskLoss(
            regression=False, teacher=teacher, alpha_task=0.3, alpha_soft=0.7, alpha_hidden=0.2, temperature=3.0
        )
        terms = criterion(student, batch, 3)
        task = soft = hidden = 0.0
        for row in rows_of(batch):
            inputs = {"input_ids": row["input_ids"], "output_hidden_states": True}
            with torch.no_grad():
                ours, theirs = student(**inputs), teacher.model(**inputs)
            s, t = ours.logits[0].double(), theirs.logits[0].double()
            task -= float(s.log_softmax(-1)[row["labels"]])
            soft += 9 * float(((t / 3).softmax(-1) * ((t / 3).log_softmax(-1) - (s / 3).log_softmax(-1))).sum())
            hidden += squared(ours.hidden_states[-1], theirs.hidden_states[-1]) / row["input_ids"].shape[1]
        expected = {"task": 0.3 * task / 3, "soft_targets": 0.7 * soft / 3, "hidden": 0.2 * hidden / 3}
        assert {name: term.item() for name, term in terms.items()} == pytest.approx(expected, rel=1e-4)

    def test_hidden_states_count_only_where_they_are_wanted(self):
        student, teacher = self.models()
        batch = padded_batch(ROWS) | {"labels": self.LABELS}
        terms = TaskLoss(regression=False, teacher=teacher, alpha_soft=0.5)(student, batch, 3)
        assert list(terms) == ["task", "soft_targets"]

    def test_a_regression_compares_logits(self):
        student, teacher = self.models(num_labels=1)
        batch = padded_batch(ROWS) | {"labels": torch.tensor([0.5, 4.0, 2.5])}
        criterion = TaskLoss(regression=True, teacher=teacher, alpha_task=0.5, alpha_soft=2.0, temperature=9.0)
        terms = criterion(student, batch, 3)
        with torch.no_grad():
            inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
            ours, theirs = (m(**inputs).logits[:, 0].tolist() for m in (student, teacher.model))
        task = sum((s - y) ** 2 for s, y in zip(ours, [0.5, 4.0, 2.5], strict=True)) / 3
        soft = sum((s - t) ** 2 for s, t in zip(ours, theirs, strict=True)) / 3
        assert terms["task"].item() == pytest.approx(0.5 * task, rel=1e-4)
        assert terms["soft_targets"].item() == pytest.approx(2.0 * soft, rel=1e-4)

    def test_segment_ids_reach_teacher_and_student(self):
        student, teacher = self.models()
        assert student.config.type_vocab_size == 2
        batch = padded_batch([12, 12, 12]) | {"labels": self.LABELS}
        segments = torch.zeros_like(batch["input_ids"])
        segments[:, 6:] = 1
        criterion = TaskLoss(regression=False, teacher=teacher, alpha_soft=1.0)
        found = criterion(student, batch | {"token_type_ids": segments}, 3)
        with torch.no_grad():
            inputs = {"input_ids": batch["input_ids"], "token_type_ids": segments}
            s, t = (m(**inputs).logits.double() for m in (student, teacher.model))
        soft = float((t.softmax(-1) * (t.log_softmax(-1) - s.log_softmax(-1))).sum()) / 3
        assert found["soft_targets"].item() == pytest.approx(soft, rel=1e-4)
        without = criterion(student, batch, 3)
        assert all(not math.isclose(found[name].item(), without[name].item(), rel_tol=1e-4) for name in found)

    def test_what_stands_in_padding_does_not_matter(self):
        student, teacher = self.models()
        batch = padded_batch(ROWS) | {"labels": self.LABELS}
        criterion = TaskLoss(regression=False, teacher=teacher, alpha_soft=1.0, alpha_hidden=1.0)
        first, second = criterion(student, batch, 3), criterion(student, with_other_padding(batch), 3)
        assert all(torch.equal(first[name], second[name]) for name in first)


class TestScales:
    BATCHES = (padded_batch(ROWS), padded_batch([20, 7], seed=1))

    def rows(self) -> list[dict[str, Tensor]]:
        return [row for batch in self.BATCHES for row in rows_of(batch)]

    def test_of_contexts_they_are_the_mean_squares_over_valid_tokens(self):
        teacher, layer_map = Teacher(bert()), map_layers([1], LAYERS)
        attention_outputs = torch.cat(
            [teacher(row, attention_outputs=True).attention_outputs[1][0] for row in self.rows()]
        ).double()
        assert attention_output_mean_squares(teacher, layer_map, list(self.BATCHES)) == pytest.approx(
            [float(attention_outputs.square().mean())], rel=1e-5
        )

    def test_of_hidden_states_they_are_the_variances_over_valid_tokens(self):
        teacher, layer_map = Teacher(bert()), map_layers([1], LAYERS)
        states = [teacher(row, hidden=True).hidden[2][0].double() for row in self.rows()]
        every, first = torch.cat(states), torch.stack([s[0] for s in states])
        variance, alone = every.var(0, correction=0), first.var(0, correction=0).mean()
        found = hidden_variances(teacher, layer_map, list(self.BATCHES))
        torch.testing.assert_close(found.tokens[0].double(), variance + 0.05 * variance.mean(), rtol=1e-4, atol=1e-6)
        assert found.first == pytest.approx([float(alone + 0.02 * every.square().mean())], rel=1e-4)
        texts = torch.stack([s.mean(0) for s in states]).var(0, correction=0).mean()
        assert found.text == pytest.approx(float(texts + 0.02 * every.square().mean()), rel=1e-4)

    def test_the_first_token_comes_after_padding_on_the_left(self):
        states = torch.arange(12.0).reshape(2, 3, 2)
        valid = torch.tensor([[True, True, False], [False, True, True]])
        assert first_tokens(states, valid).tolist() == [[[0.0, 1.0]], [[8.0, 9.0]]]


def test_context_errors_are_relative_to_the_teacher_over_all_tokens():
    student, teacher, layer_map = pair()
    batches = [padded_batch(ROWS), padded_batch([20, 7], seed=1)]
    for i, found in enumerate(attention_output_errors(student, teacher, layer_map, batches)):
        attention, error, energy = student.transformer.layer[i].attention, 0.0, 0.0
        for row in [row for batch in batches for row in rows_of(batch)]:
            teacher_outputs = teacher(row, attention_outputs=True, hidden=True)
            error += squared(
                context(attention, teacher_outputs.hidden[i]).detach(), teacher_outputs.attention_outputs[i]
            )
            energy += squared(teacher_outputs.attention_outputs[i], torch.zeros(1))
        assert found == pytest.approx(error / energy, rel=1e-4)
