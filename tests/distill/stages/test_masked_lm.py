"""The stage masked_lm: which tokens it hides, and its loss against a computation by hand at the masked positions."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from transformers import BertForMaskedLM

from inhibitor_transformers.distill.data import StepBatches, token_windows
from inhibitor_transformers.distill.stages.masked_lm import MaskedLMLoss, MaskedStepBatches
from inhibitor_transformers.distill.teacher.teacher import Teacher
from inhibitor_transformers.models import InhibiDistilBertForMaskedLM
from tests.distill.by_hand import ROWS, total, with_other_padding
from tests.distill.tiny import SPECIAL, bert, bert_tokenizer, padded_batch, sentences

LENGTHS = [16, 32, 64]


@pytest.fixture(scope="module")
def masked():
    """(original ids, masked ids, labels) of many tokens, of valid positions only."""
    tokenizer = bert_tokenizer()
    windows = token_windows(sentences(1500), tokenizer, LENGTHS)
    settings = {"steps": 300, "tokens_per_step": 512, "lengths": LENGTHS}
    plain, hidden = (c(windows, tokenizer, **settings) for c in (StepBatches, MaskedStepBatches))
    parts = []
    for i in range(len(plain)):
        valid = plain[i]["attention_mask"].bool()
        assert torch.equal(plain[i]["attention_mask"], hidden[i]["attention_mask"])
        assert (hidden[i]["labels"][~valid] == -100).all()
        assert torch.equal(hidden[i]["input_ids"][~valid], plain[i]["input_ids"][~valid])
        item = hidden[i]
        parts.append(torch.stack([plain[i]["input_ids"][valid], item["input_ids"][valid], item["labels"][valid]]))
    return torch.cat(parts, dim=1)


class TestMaskedStepBatches:
    def test_the_labels_are_the_hidden_tokens(self, masked):
        original, _, labels = masked
        chosen = labels != -100
        assert torch.equal(labels[chosen], original[chosen])

    def test_what_is_not_chosen_stays(self, masked):
        original, changed, labels = masked
        kept = labels == -100
        assert torch.equal(changed[kept], original[kept])

    def test_15_percent_of_the_ordinary_tokens_are_chosen(self, masked):
        original, _, labels = masked
        ordinary = original >= len(SPECIAL)
        share = (labels[ordinary] != -100).float().mean()
        assert len(labels) > 100_000
        assert float(share) == pytest.approx(0.15, abs=0.004)

    def test_special_tokens_are_never_chosen(self, masked):
        original, _, labels = masked
        assert (labels[original < len(SPECIAL)] == -100).all()

    def test_80_10_10(self, masked):
        original, changed, labels = masked
        chosen = labels != -100
        original, changed = original[chosen], changed[chosen]
        hidden = float((changed == SPECIAL.index("[MASK]")).float().mean())
        same = float((changed == original).float().mean())
        other = 1 - hidden - same
        # one random token in 75 is the mask token, and one is the token itself
        assert (hidden, same, other) == pytest.approx((0.80 + 0.1 / 75, 0.10 + 0.1 / 75, 0.1 * 73 / 75), abs=0.01)

    def test_random_tokens_come_from_the_whole_vocabulary(self, masked):
        original, changed, labels = masked
        replaced = changed[(labels != -100) & (changed != original) & (changed != SPECIAL.index("[MASK]"))]
        counts = torch.bincount(replaced, minlength=75)
        assert len(counts) == 75
        assert counts[5:].min() > 0

    def make(self, seed=0):
        tokenizer = bert_tokenizer()
        windows = token_windows(sentences(60), tokenizer, LENGTHS)
        return MaskedStepBatches(windows, tokenizer, steps=20, tokens_per_step=96, lengths=LENGTHS, seed=seed)

    def test_the_draw_depends_on_index_and_seed_alone(self):
        a, b = self.make(), self.make()
        torch.manual_seed(1)
        later = [a[i] for i in (5, 3)]
        torch.manual_seed(2)
        assert all(torch.equal(b[i][name], item[name]) for i, item in zip((5, 3), later, strict=True) for name in item)

    def test_another_epoch_hides_other_tokens(self):
        a = self.make()
        a.batches = [a.batches[0], a.batches[0]]
        assert not torch.equal(a[0]["labels"], a[1]["labels"])

    def test_another_seed_hides_other_tokens(self):
        a, b = self.make(0), self.make(1)
        b.batches = a.batches
        assert not torch.equal(a[0]["labels"], b[0]["labels"])

    def test_there_is_always_something_to_predict(self):
        batches = self.make()
        batches.mask_probability = 0.0
        for i in range(len(batches)):
            chosen = batches[i]["labels"] != -100
            assert chosen.sum() == 1
            assert chosen[0, 1]


def masked_batch(lengths: list[int], positions: Sequence[tuple[int, int]]) -> dict[str, Tensor]:
    """A padded batch in which the tokens at `positions` (row, column) are hidden behind the mask token."""
    batch = padded_batch(lengths)
    labels = torch.full_like(batch["input_ids"], -100)
    for row, column in positions:
        labels[row, column] = batch["input_ids"][row, column]
        batch["input_ids"][row, column] = 4
    return batch | {"labels": labels}


class TestMaskedLMLoss:
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
