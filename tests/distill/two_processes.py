"""Runs that two data-parallel processes and one process with accumulated gradients must end alike.

As a script it is one of the processes: `torchrun --nproc_per_node 2 two_processes.py TEACHERS FOLDER`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import TrainingArguments

from inhibitor_transformers.common.distributed import is_main_process
from inhibitor_transformers.distill import Distillation, DistillConfig
from inhibitor_transformers.distill.data import unpack
from inhibitor_transformers.distill.output_dir import write_json
from inhibitor_transformers.distill.pairing import EncoderPairing
from inhibitor_transformers.distill.stages.align_hidden import HiddenStateLoss, HiddenWeights
from inhibitor_transformers.distill.task import FinetuneArguments, FineTuning
from inhibitor_transformers.distill.training.trainer import DistillationTrainer, NonFiniteLossError
from inhibitor_transformers.tasks import load_task
from tests.distill.tiny import bert_tokenizer, equal_variances, narrow_student, padded_batch, pair

RUNTIME = {"use_cpu": True, "disable_tqdm": True}
TRAINED = {"max_steps": 4, "tokens_per_step": 128, "lengths": [16, 32], "save_steps": 2, "logging_steps": 2}
STAGES = ("calibrate", "align_attention", "align_hidden", "masked_lm")
STEPS = 4


class StoppedError(Exception):
    """What interrupts a run."""


def distill(
    sources: Path,
    output: Path,
    accumulation: int,
    said: list[str],
    *,
    names: tuple[str, ...] = STAGES,
    resume: bool = False,
    **others: Any,
) -> None:
    """All stages; `sources` holds the teacher, its texts and the task's data."""
    trained = TRAINED | {"gradient_accumulation_steps": accumulation}
    calibrate = {"lengths": [16, 32], "tokens_per_length": 128}
    stages = [{name: calibrate if name == "calibrate" else trained} for name in names]
    teacher, text = str(sources / "masked_lm"), [str(sources / "texts.txt")]
    config = DistillConfig(teacher=teacher, text=text, stages=stages, **others)
    Distillation(config, output, runtime=RUNTIME, log=said.append, resume=resume).run()


def distill_interrupted(sources: Path, output: Path, accumulation: int, said: list[str]) -> None:
    """The same, stopped within the last step of the hidden states and resumed."""
    original, calls = HiddenStateLoss.forward, 0

    def counted(self: HiddenStateLoss, *args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == STEPS * accumulation:
            raise StoppedError
        return original(self, *args)

    HiddenStateLoss.forward = counted  # type: ignore[method-assign]
    try:
        distill(sources, output, accumulation, said)
    except StoppedError:
        HiddenStateLoss.forward = original  # type: ignore[method-assign]
        distill(sources, output, accumulation, said, resume=True)


def train_projections(output: Path, accumulation: int) -> None:
    """A student narrower than its teacher; its projections begin differently in every process."""
    student, (_, teacher, layer_map) = narrow_student(), pair()
    torch.manual_seed(0 if is_main_process() else 1)
    criterion = HiddenStateLoss(
        EncoderPairing(student, teacher, layer_map), equal_variances(layer_map), HiddenWeights(cls=2.0)
    )
    made = _trainer(student, criterion, output, accumulation)
    made.train()
    write_json(output / "log.json", made.state.log_history)
    if is_main_process():
        save_file(dict(student.state_dict()) | criterion.state_dict(), output / "weights.safetensors")


def finetuned(sources: Path, output: Path, accumulation: int) -> None:
    """A student aligned with a task's teacher and fine-tuned with its soft targets."""
    arguments = FinetuneArguments(
        output_dir="unused",
        num_train_epochs=2,
        alignment_epochs=1,
        per_device_train_batch_size=4,
        logging_steps=2,
        gradient_accumulation_steps=accumulation,
        max_length=16,
        adam_epsilon=1e-6,  # with the usual one, a gradient that is nothing but rounding takes a whole step
        **RUNTIME,
    )
    student, teacher = str(sources / "student"), str(sources / "classifier")
    data = load_task("custom", sources / "task", max_train_examples=32)
    FineTuning(student, data, arguments, output, teacher_source=teacher).run()


class NaNElsewhere(nn.Module):
    """Loses its loss in one process, which is not the main one."""

    def forward(self, model: nn.Module, batch: dict[str, Tensor], count: Tensor) -> dict[str, Tensor]:
        loss = model(batch["input_ids"]).last_hidden_state.square().sum() / count
        return {"square": loss if is_main_process() else loss * float("nan")}


def stop_at_nan(output: Path) -> None:
    """Every process stops, with the same message; it goes to a file of its own."""
    try:
        _trainer(pair()[0], NaNElsewhere(), output, 1).train()
    except NonFiniteLossError as error:
        (output / f"main-{is_main_process()}.txt").write_text(str(error), encoding="utf-8")


def _trainer(student: Any, criterion: Any, output: Path, accumulation: int) -> DistillationTrainer:
    items = [padded_batch([9, 14, 11, 20 - i], seed=i) for i in range(2 * STEPS)]
    arguments = TrainingArguments(
        output_dir=str(output),
        per_device_train_batch_size=1,
        gradient_accumulation_steps=accumulation,
        max_steps=STEPS,
        logging_steps=1,
        learning_rate=1e-3,
        remove_unused_columns=False,
        save_strategy="no",
        report_to="none",
        **RUNTIME,
    )
    return DistillationTrainer(
        model=student,
        args=arguments,
        train_dataset=items,
        data_collator=unpack,
        processing_class=bert_tokenizer(),
        criterion=criterion,
    )


def main(sources: Path, folder: Path) -> None:
    """What one of two processes does: the runs of `run_all`, an interrupted one, and one that meets NaN."""
    torch.set_num_threads(1)
    said: list[str] = []
    run_all(sources, folder, accumulation=1, said=said)
    (folder / f"said-main-{is_main_process()}.txt").write_text("\n".join(said), encoding="utf-8")
    distill_interrupted(sources, folder / "resumed", 1, [])
    stop_at_nan(folder / "nan")


def run_all(sources: Path, folder: Path, *, accumulation: int, said: list[str]) -> None:
    distill(sources, folder / "distilled", accumulation, said)
    cache = {"folder": str(sources / "cache"), "dtype": "float32"}  # for one process and for two, at the same time
    distill(sources, folder / "cached", accumulation, said, names=STAGES[:3], teacher_cache=cache)
    train_projections(folder / "projections", accumulation)
    finetuned(sources, folder / "finetuned", accumulation)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
