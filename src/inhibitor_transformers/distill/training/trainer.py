"""HF Trainer with named loss terms, a learning rate for the scalars, and a stop at the first non-finite loss."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler
from transformers import PrinterCallback, ProgressCallback, Trainer, TrainerState
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_pt_utils import LengthGroupedSampler

from ...attention import InhibitorScalars
from ...common.progress import can_redraw
from ...models.saving import writing
from ..losses import IGNORED, DistillationLoss, Terms, TrainingStep
from .arguments import require_counted_together, warn_of_slow_bfloat16
from .batching import LengthGroups, split_by_length, with_own_generator
from .checkpoints import BestStaysBeside, best_checkpoint, had_ended
from .log_lines import TermLines, TermProgress

_LOSS_FILE = "loss.safetensors"


class NonFiniteLossError(FloatingPointError):
    """A loss term became NaN or infinite; the message names the term, its layer and the step."""


class DistillationTrainer(Trainer):
    """Trains a student on a distillation loss; the model that it saves is the student itself.

    Args:
        criterion: gives the loss terms of a batch.
        scalar_learning_rate_factor: the scalars' learning rate over that of the weights.
        dropout: False switches the student's dropout off (matching a teacher that has none).
        length_buckets: cut every batch into so many buckets of like length; the gradient is that of the whole batch.

    Modules of the loss, such as projections, are trained along and kept in the checkpoints, beside the student.
    Several processes share every step: losses, logs and weights are those of one process with their batches together.
    A run that goes on from a checkpoint sees the examples in the order of an uninterrupted one, with the same dropout.

    Raises ValueError for settings under which a step's batches would not be counted together.
    """

    # Every term is divided by the number of items in the whole accumulated batch.
    loss_is_scaled_for_ga = True

    optimizer: torch.optim.Optimizer | None

    def __init__(
        self,
        *args: Any,
        criterion: DistillationLoss,
        scalar_learning_rate_factor: float = 1.0,
        dropout: bool = True,
        length_buckets: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.length_buckets = length_buckets
        require_counted_together(self.args, length_buckets)
        warn_of_slow_bfloat16(self.args)
        self._show_terms()
        self.add_callback(BestStaysBeside)
        self.model_accepts_loss_kwargs = True  # makes Trainer count the labels of the accumulated batch
        self.criterion = criterion
        self.scalar_learning_rate_factor = scalar_learning_rate_factor
        self.dropout = dropout
        self._term_sums: dict[str, Tensor] = {}
        self._logged_at = 0  # step at which these sums began

    def _show_terms(self) -> None:
        """Put our own line per log in place of Trainer's, with a bar only where one can be drawn."""
        for shown in (ProgressCallback, PrinterCallback):
            self.pop_callback(shown)
        bar = can_redraw(sys.stderr) and not self.args.disable_tqdm
        self.add_callback(TermProgress() if bar else TermLines())

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int] | None:
        sampler: Sampler[int] | None = super()._get_train_sampler(train_dataset)
        if isinstance(sampler, LengthGroupedSampler):
            seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
            return LengthGroups(sampler.batch_size, sampler.lengths, seed)
        return sampler

    def get_train_dataloader(self) -> DataLoader[Any]:
        """As Trainer's; to begin an epoch draws nothing from the generators of dropout."""
        return with_own_generator(super().get_train_dataloader())

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader[Any]:
        """As Trainer's; to evaluate, or not to after an interruption, leaves dropout as it is."""
        return with_own_generator(super().get_eval_dataloader(eval_dataset))

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """The optimizer that the arguments name, with the scalars in a group of their own, without weight decay."""
        if self.optimizer is None:
            target = model if model is not None else self.model
            optimizer_class, options = self.get_optimizer_cls_and_kwargs(self.args, target)
            self.optimizer = optimizer_class(self._parameter_groups(target), **options)
        return self.optimizer

    def _parameter_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        scalars = {p for m in model.modules() if isinstance(m, InhibitorScalars) for p in m.parameters()}
        decaying = set(self.get_decay_parameter_names(model))
        named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        if isinstance(self.criterion, nn.Module):
            named += list(self.criterion.named_parameters())
        rate, decay = self.args.learning_rate, self.args.weight_decay
        groups = [
            {"params": [p for n, p in named if p not in scalars and n in decaying], "weight_decay": decay},
            {"params": [p for n, p in named if p not in scalars and n not in decaying], "weight_decay": 0.0},
            {
                "params": [p for _, p in named if p in scalars],
                "weight_decay": 0.0,
                "lr": rate * self.scalar_learning_rate_factor,
            },
        ]
        return [group for group in groups if group["params"]]

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """As Trainer's, one bucket of the batch after the other; terms are divided by the count of the whole batch."""
        if self.length_buckets == 1:
            return super().training_step(model, inputs, num_items_in_batch)
        step = super().training_step
        buckets = split_by_length(inputs, self.length_buckets)
        return torch.stack([step(model, bucket, num_items_in_batch) for bucket in buckets]).sum()

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Mapping[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The sum of the loss terms; in evaluation the model's own loss."""
        if not model.training:
            outputs = model(**inputs)
            return (outputs.loss, outputs) if return_outputs else outputs.loss
        if not self.dropout:
            model.eval()
        count = num_items_in_batch if num_items_in_batch is not None else (inputs["labels"] != IGNORED).sum()
        if not self._term_sums:
            self._logged_at = self.state.global_step
        terms = model(inputs, count)
        loss = torch.stack(list(terms.values())).sum()
        whole = self._over_processes(terms)
        self._require_finite(whole)
        for name, term in whole.items():
            self._term_sums[name] = self._term_sums.get(name, torch.zeros_like(term)) + term
        # Gradients are averaged over processes, the terms already divided by the count of all of them.
        return loss * self.accelerator.num_processes

    def _over_processes(self, terms: Terms) -> Terms:
        """The terms of the whole distributed batch, without gradients."""
        values = self.accelerator.reduce(torch.stack([term.detach() for term in terms.values()]), reduction="sum")
        return dict(zip(terms, values, strict=True))

    def _require_finite(self, terms: Terms) -> None:
        if bool(torch.isfinite(torch.stack(list(terms.values())).sum())):
            return
        wrong = [name for name, term in terms.items() if not bool(torch.isfinite(term))] or ["the sum of all terms"]
        step = self.state.global_step + 1
        kept = Path(str(self.args.output_dir)) / f"stopped-before-step-{step}"
        if self._weights_are_finite():
            self.save_model(str(kept))
            self.accelerator.wait_for_everyone()  # when one process ends, the others are stopped
            where = f"the weights before that step are in {kept}"
        else:
            where = f"the weights are not finite any more; the checkpoints in {self.args.output_dir} are from before"
        raise NonFiniteLossError(f"loss is not finite at step {step}: {', '.join(wrong)}; {where}")

    def _weights_are_finite(self) -> bool:
        return all(bool(torch.isfinite(p).all()) for p in self.model.parameters())

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """As Trainer's, with the modules of the loss beside it. Raises NonFiniteLossError rather than save NaN."""
        folder = Path(str(output_dir or self.args.output_dir))
        if not self._weights_are_finite():
            raise NonFiniteLossError(
                f"the weights are not finite after step {self.state.global_step}; the checkpoints in "
                f"{self.args.output_dir} are from before"
            )
        with writing(folder):
            super().save_model(str(folder), _internal_call=_internal_call)
            if not self.args.should_save or not isinstance(self.criterion, nn.Module):
                return
            if state := self.criterion.state_dict():
                save_file(state, folder / _LOSS_FILE)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """As Trainer's; of a checkpoint that cannot be written nothing is left. Raises OSError."""
        folder = Path(str(self.args.output_dir)) / f"checkpoint-{self.state.global_step}"
        try:
            with writing(folder):
                super()._save_checkpoint(model, trial)
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def train(self, resume_from_checkpoint: str | bool | None = None, **kwargs: Any) -> Any:
        """As Trainer's; a checkpoint also gives back the modules of the loss.

        Training that was over with that checkpoint, because it stopped early or had done its steps, is not taken up
        again: the model becomes what it left.
        """
        checkpoint = Path(str(resume_from_checkpoint))
        if resume_from_checkpoint and had_ended(checkpoint):
            return self._restore(checkpoint)
        file = checkpoint / _LOSS_FILE
        if isinstance(self.criterion, nn.Module) and file.exists():
            self.criterion.load_state_dict(load_file(file))
        self.model_wrapped = self.accelerator.prepare_model(TrainingStep(self.model, self.criterion))
        try:
            return super().train(resume_from_checkpoint, **kwargs)
        finally:  # an error must not be written into a bar
            for callback in self.callback_handler.callbacks:
                if isinstance(callback, TermProgress):
                    callback.close()

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        """As Trainer's; a converted model by its own loading, since files may have older names for some weights."""
        if not hasattr(self.model, "inhibitor_report"):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        saved = type(self.model).from_pretrained(resume_from_checkpoint)
        self.model.load_state_dict(saved.state_dict())

    def _restore(self, checkpoint: Path) -> None:
        best = best_checkpoint(checkpoint) if self.args.load_best_model_at_end else None
        self._load_from_checkpoint(str(best or checkpoint))
        self.state = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the mean of every term since the last log."""
        if "loss" in logs and self._term_sums:
            steps = max(self.state.global_step - self._logged_at, 1)
            logs = logs | {f"loss/{name}": float(total) / steps for name, total in self._term_sums.items()}
            self._term_sums.clear()
        super().log(logs, start_time)
