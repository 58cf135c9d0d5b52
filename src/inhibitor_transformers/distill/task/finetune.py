"""Fine-tuning on a task, with or without a fine-tuned teacher (the paper's task-specific regime).

OUT/                          the model of the best epoch: weights, config, tokenizer
OUT/run.yaml                  the settings of the run
OUT/checkpoints/checkpoint-N/ Trainer's checkpoints
OUT/checkpoints/alignment/    the aligned model, its scores and checkpoints, if hidden states are aligned first
OUT/results.json              the scores; written last
"""

from __future__ import annotations

import copy
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from transformers import set_seed

from ...common.distributed import on_main_process
from ...common.inputs import require_apart
from ...common.paths import expand_user
from ...common.progress import Log
from ...common.settings import require
from ...evaluation.task_score import score_task
from ...models.architectures import require_positions
from ...models.compatibility import warn_of_lost_segments
from ...models.pretrained import load_tokenizer
from ...tasks import TaskData, encode
from ..output_dir import RunFolder, save_into
from ..teacher.fingerprints import data_fingerprint, model_fingerprint, tokenizer_fingerprint
from ..teacher.logits import add_teacher_logits
from ..teacher.storage import CACHE, require_cache_folder
from ..training.checkpoints import checkpoint_to_resume
from ..training.log_lines import estimate_memory
from .alignment import align_and_score
from .arguments import FinetuneArguments, changed_settings
from .data import require_usable, split_selection
from .model import load_for_task
from .result import FinetuneResult, Scores, load_finished
from .teacher import TaskTeacher, load_task_teacher, score_initial, score_teacher
from .trainer import build_trainer

_BUCKETS_ON_A_CPU = 4


class FineTuning:
    """Fine-tunes a model (inhibitor or not) on a task and saves the best epoch in `output`, with results.json.

    With `teacher_source`, a model fine-tuned on the same task, its soft targets join the loss. The teacher is first
    scored through this very pipeline, and refused unless it beats chance. With `teacher_base`, what that teacher was
    fine-tuned from, the model starts from the teacher's task vector (`add_task_vector`), and is scored before it is
    trained. With `alignment_epochs`, its hidden states are aligned first (`align_with_task_teacher`).

    Args:
        source: folder or Hub id of the model.
        data: what `load_task` returns.
        arguments: copied, never written to; checkpoints are in `output`/checkpoints, whatever they say.
        output: the run folder; must not exist unless `resume` or `overwrite`.
        resume: go on where an interrupted run with the same settings stopped.
        overwrite: replace the run that the folder holds, once this one is finished; until then it is in OUT/.partial.
        log: receives one-line progress messages, in the main process.

    Raises ValueError (ConfigError) before any work is done, here or when `run` begins: also if `output` is, contains or
    lies inside something that is read, or if another process works in it.
    """

    def __init__(
        self,
        source: str | Path,
        data: TaskData,
        arguments: FinetuneArguments,
        output: str | Path,
        *,
        teacher_source: str | Path | None = None,
        teacher_base: str | Path | None = None,
        resume: bool = False,
        overwrite: bool = False,
        log: Log = print,
    ) -> None:
        self.data, self.arguments, self.log = data, copy.copy(arguments), on_main_process(log)
        self.source = os.path.expanduser(source)
        self.teacher_source = None if teacher_source is None else os.path.expanduser(teacher_source)
        self.teacher_base = None if teacher_base is None else os.path.expanduser(teacher_base)
        self.teacher_cache = expand_user(arguments.teacher_cache) if arguments.teacher_cache else None
        output = expand_user(output)
        self._require_sound_settings(output)
        self.settings: dict[str, Any] = {
            "model": self.source,
            "teacher": self.teacher_source,
            "teacher_base": self.teacher_base,
            "task": data.task.name,
            "data": data_fingerprint(data),
        } | changed_settings(arguments)
        flags = {"resume": resume, "overwrite": overwrite, "more_to_come": True}
        self.folder = RunFolder(output, "finetune", self.settings, **flags)
        self.task_teacher: TaskTeacher | None = None
        self.teacher_scores: Scores | None = None
        self.initial_scores: Scores | None = None
        self.aligned_scores: Scores | None = None

    def run(self) -> FinetuneResult:
        """Run what is not finished yet; returns the scores, which are also saved in the run folder."""
        started = time.monotonic()
        with self.folder:
            self.load()
            if (finished := self._find_finished()) is not None:
                return finished
            self.check()
            self.encode()
            self.align()
            self.train()
            self.score()
            return self.save(started)

    def load(self) -> None:
        """Read model, tokenizer and teacher; those of a run that is resumed must be the ones that it began with."""
        data, arguments = self.data, self.arguments
        arguments.output_dir = str(self.folder.path / "checkpoints")
        set_seed(arguments.seed)  # for a head that starts anew
        self.tokenizer = load_tokenizer(self.source)
        label_mean = float(np.mean(data.train[data.task.label_column])) if data.task.is_regression else None
        self.model = load_for_task(self.source, data.task, arguments.attention_dropout, label_mean)
        require_positions(self.model.config, arguments.max_length, "max_length")
        if data.task.is_pair:
            warn_of_lost_segments(self.model.config, self.tokenizer, data.task.name)
        self.settings["tokenizer"] = tokenizer_fingerprint(self.tokenizer)
        self.settings["model_weights"] = model_fingerprint(self.model)
        if self.teacher_source is not None:
            self.task_teacher = load_task_teacher(
                self.teacher_source, self.teacher_base, self.model, self.tokenizer, data, arguments
            )
            self.settings |= self.task_teacher.weights
        self.teacher = self.task_teacher.teacher if self.task_teacher else None
        self.folder.require_same(self.settings)

    def check(self) -> None:
        """The last that may be refused: a teacher at chance, examples too few to hold some out. Then OUT is made."""
        if self.task_teacher is not None:
            source, teacher = str(self.teacher_source), self.task_teacher
            self.teacher_scores = score_teacher(source, teacher, self.data, self.arguments.max_length, self.log)
            self.initial_scores = score_initial(
                self.model, self.tokenizer, teacher, self.data, self.arguments, self.log
            )
        self.examples = split_selection(self.data, self.arguments)
        self.folder.create(self.settings)
        for note in self.data.notes:
            self.log(note)

    def encode(self) -> None:
        """The training examples as tokens, with the teacher's logits where there is a teacher."""
        # Student's and teacher's tokenizers give the same ids; only the teacher's is sure to give the segments that it
        # was trained with.
        tokenizer = self.task_teacher.tokenizer if self.task_teacher else self.tokenizer
        self.train_set = encode(self.examples.train, tokenizer, self.data.task, self.arguments.max_length)
        if self.task_teacher is not None:
            self.train_set = add_teacher_logits(
                self.train_set, self.task_teacher.teacher, tokenizer, self.teacher_cache, self.log
            )
        self.checkpoint = checkpoint_to_resume(Path(str(self.arguments.output_dir)), self.log, "the training")

    def align(self) -> None:
        """Align hidden states with the teacher's, if that is asked for and not done yet; scored before any label."""
        arguments = self.arguments
        on_a_cpu = arguments.device.type == "cpu" and arguments.world_size == 1
        arguments.length_buckets = arguments.length_buckets or (_BUCKETS_ON_A_CPU if on_a_cpu else 1)
        if self.teacher is None or arguments.alignment_epochs == 0:
            return
        self.aligned_scores = align_and_score(
            self.model,
            self.teacher,
            self.tokenizer,
            self.train_set,
            self.data,
            arguments,
            is_aligned=self.checkpoint is not None,
            log=self.log,
        )

    def train(self) -> None:
        """Train on the labels and the teacher's soft targets; leaves the best epoch in `model`."""
        self.trainer = build_trainer(
            self.model, self.tokenizer, self.data.task, self.train_set, self.examples, self.arguments, self.teacher
        )
        tokens = self.arguments.per_device_train_batch_size * self.arguments.max_length
        teacher = self.teacher.model if self.teacher else None
        self.log(f"{estimate_memory(self.model, teacher, self.model.config, tokens)}, at full length")
        self.trainer.train(resume_from_checkpoint=str(self.checkpoint) if self.checkpoint else None)

    def score(self) -> None:
        """Score the best epoch on every evaluation split, and on the one that it was chosen by."""
        data, chosen_by = self.data, self.examples.chosen_by
        splits = data.evaluation | {chosen_by: self.examples.selection}
        scores = score_task(
            self.model, self.tokenizer, replace(data, evaluation=splits), max_length=self.arguments.max_length
        )
        self.scores = {split: scores[split] for split in data.evaluation}
        self.selection_score = scores[chosen_by][data.task.main_metric]
        self._require_best_restored()

    def save(self, started: float) -> FinetuneResult:
        """Save model and scores, and let the folder take the place of an older run."""
        result = FinetuneResult(
            scores=self.scores,
            teacher_scores=self.teacher_scores,
            initial_scores=self.initial_scores,
            aligned_scores=self.aligned_scores,
            selection_score=self.selection_score,
            seconds=time.monotonic() - started,
        )
        save_into(self.folder.path, self.model, self.tokenizer)
        result.save(self.folder.path, self.settings, self.data.notes)
        self.folder.finish()
        return result

    def _require_sound_settings(self, output: Path) -> None:
        """Raise ConfigError for what can be told without loading a model."""
        inputs: dict[str, str | Path | None] = {
            "model": self.source,
            "teacher": self.teacher_source,
            "teacher's base": self.teacher_base,
        }
        inputs |= {CACHE: self.teacher_cache, "data": self.data.source}
        require_apart(output, inputs)
        require_cache_folder(self.teacher_cache, inputs)
        require_usable(self.data, self.arguments)
        has_teacher = self.teacher_source is not None
        require(self.teacher_base is None or has_teacher, "a teacher's base needs the teacher: give both")
        aligns = self.arguments.alignment_epochs > 0
        require(not aligns or has_teacher, "alignment_epochs needs a teacher to align with: give one")

    def _find_finished(self) -> FinetuneResult | None:
        """The result of a run that is to be resumed, but has ended."""
        finished = load_finished(self.folder.path) if self.folder.resume else None
        if finished is not None:
            self.log(f"{self.folder.output} is finished already: nothing is left to resume")
            self.folder.create(self.settings)
            self.folder.finish()
        return finished

    def _require_best_restored(self) -> None:
        best, now, metric = self.trainer.state.best_metric, self.selection_score, self.data.task.main_metric
        restores = self.arguments.load_best_model_at_end and best is not None
        if restores and not np.isclose(best, now, atol=5e-3):
            raise RuntimeError(f"the best checkpoint scored {metric} {best:.4f}, the restored model {now:.4f}")
