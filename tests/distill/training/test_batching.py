"""Parts of like length: every row once, less padding, and the gradient of the whole batch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from inhibitor_transformers.distill.training.batching import split_by_length
from inhibitor_transformers.models import InhibiDistilBertModel
from tests.distill.fine_tuning import custom, pairs, run
from tests.distill.tiny import bert, saved, weights_of

LENGTHS = [9, 3, 7, 3, 8, 2, 5]


def batch(side: str = "right") -> dict[str, torch.Tensor]:
    mask = torch.zeros(len(LENGTHS), 10, dtype=torch.int64)
    for row, length in enumerate(LENGTHS):
        mask[row, :length] = 1
    mask = mask.flip(1) if side == "left" else mask
    ids = torch.arange(mask.numel()).reshape(mask.shape)
    return {"input_ids": ids, "attention_mask": mask, "labels": torch.arange(len(LENGTHS)), "logits": torch.rand(7, 3)}


@pytest.mark.parametrize("side", ["right", "left"])
def test_every_row_is_in_one_part_with_its_own_tokens(side):
    whole, rows = batch(side), []
    for part in split_by_length(whole, 3):
        for i, row in enumerate(part["labels"].tolist()):
            rows.append(row)
            kept, all_of_it = part["attention_mask"][i].bool(), whole["attention_mask"][row].bool()
            assert part["input_ids"][i][kept].tolist() == whole["input_ids"][row][all_of_it].tolist()
            assert torch.equal(part["logits"][i], whole["logits"][row])
    assert sorted(rows) == list(range(len(LENGTHS)))


def test_short_texts_are_not_padded_to_the_longest():
    parts = split_by_length(batch(), 3)
    assert [part["input_ids"].shape for part in parts] == [(3, 3), (3, 8), (1, 9)]


def test_more_buckets_than_sequences():
    assert len(split_by_length(batch(), 100)) == len(LENGTHS)


def test_a_text_without_tokens():
    empty = {"input_ids": torch.ones(1, 4), "attention_mask": torch.zeros(1, 4)}
    assert split_by_length(empty, 2)[0]["input_ids"].shape == (1, 4)


def test_training_is_the_same_in_one_part_and_in_four(tmp_path: Path):
    student = saved(InhibiDistilBertModel.from_teacher(bert(), seq_classif_dropout=0.0), tmp_path / "student")
    data = custom(tmp_path / "data", pairs(48), pairs(20, seed=1))
    for parts in (1, 4):
        # Adam would make much of a gradient that is nothing but rounding
        settings = {"num_train_epochs": 1, "optim": "sgd", "learning_rate": 0.1, "length_buckets": parts}
        run(student, data, tmp_path / str(parts), **settings)
    whole = weights_of(tmp_path / "1")
    for name, weight in weights_of(tmp_path / "4").items():
        torch.testing.assert_close(weight, whole[name], rtol=1e-4, atol=1e-6)
