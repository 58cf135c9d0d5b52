#!/usr/bin/env bash
# transformers 5.24.0: with train_sampling_strategy="group_by_length", a Trainer that is resumed from a checkpoint inside its
# second epoch goes on in another order than it would have: some examples of that epoch are seen twice, others never.
# At "random" the order goes on exactly. An unknown strategy, such as a misspelt one, is accepted and means "random".
# Guess before it was run: both orders go on exactly, and an unknown name is an error.
# For users of inhibitor models: `inhibit finetune` resumes this order exactly and refuses unknown names.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check transformers==5.24.0 accelerate==1.15.0
cd "$folder"
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" -W ignore - <<'PY'
import logging
import tempfile

import torch
import transformers
from torch.utils.data import Dataset
from transformers import Trainer, TrainerCallback, TrainingArguments

logging.disable(logging.WARNING)
EXAMPLES, BATCH, STOP = 64, 4, 22  # 16 steps an epoch: the checkpoint is six steps into the second


class Texts(Dataset):
    def __len__(self):
        return EXAMPLES

    def __getitem__(self, i):
        if i >= EXAMPLES:
            raise IndexError(i)
        return {"input_ids": [1] * (3 + 7 * i % 40), "number": i}


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight, self.seen = torch.nn.Parameter(torch.zeros(1)), []

    def forward(self, number):
        self.seen += number.tolist()
        return {"loss": (self.weight * number).sum()}


class Stop(TrainerCallback):
    def on_save(self, args, state, control, **kwargs):
        control.should_training_stop = True


def collate(examples):
    return {"number": torch.tensor([example["number"] for example in examples])}


def train(folder, strategy, callbacks=(), resume=None):
    arguments = TrainingArguments(
        folder, num_train_epochs=2, per_device_train_batch_size=BATCH, save_steps=STOP, logging_steps=1000, seed=1,
        train_sampling_strategy=strategy, use_cpu=True, report_to="none", disable_tqdm=True, remove_unused_columns=False,
    )
    model = Model()
    trainer = Trainer(model, arguments, collate, Texts(), callbacks=list(callbacks))
    trainer.train(resume_from_checkpoint=resume)
    return model.seen


never = {}
for strategy in ("random", "group_by_length"):
    folder = tempfile.mkdtemp(dir=".")
    first = train(folder, strategy, [Stop()])[: STOP * BATCH]
    seen = first + train(folder, strategy, resume=f"{folder}/checkpoint-{STOP}")
    never[strategy] = EXAMPLES - len(set(seen[EXAMPLES:]))
accepted = TrainingArguments("out", train_sampling_strategy="by_lenght", use_cpu=True).train_sampling_strategy
print(f"transformers {transformers.__version__}: examples of the second epoch never seen: {never}; accepted: {accepted!r}")
assert never["random"] == 0 and never["group_by_length"] > 0 and accepted == "by_lenght"
PY
echo "as found"
