"""Runs the stages of a distillation in order, each resumable, into one run folder.

    OUT/                          the finished student: weights, config, tokenizer
    OUT/run.yaml                  the settings of the run
    OUT/stages/1-calibrate/student/          the student after each stage
    OUT/stages/2-align_attention/checkpoint-N/  Trainer's checkpoints; log.json its log

A stage is finished when its student/ exists: folders are written under another name and then renamed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, AutoModelForMaskedLM, PreTrainedModel, TrainingArguments, set_seed

from ..common.distributed import on_main_process, require_joined, wait_for_everyone
from ..common.inputs import require_apart
from ..models import (
    InhibiDistilBertForMaskedLM,
    InhibiDistilBertModel,
    InhibiDistilBertPreTrainedModel,
    LayerMap,
    map_layers,
)
from ..models.inhibidistilbert.from_teacher import teacher_depth
from ..models.pretrained import load_config, load_pretrained, load_tokenizer, loading
from ..tasks.text import THIS_MACHINE, Text, english_on_this_machine, load_pairs, load_texts, split_held_out
from .config import DistillConfig, MaskedLMArguments, StageArguments
from .fingerprints import encoder_fingerprint, model_fingerprint, tokenizer_fingerprint
from .init_from import load_start, student_from_start
from .output_dir import RunFolder, fingerprint, save_atomically, save_into
from .stages.run import require_readable_lengths, require_windows, run_stage
from .teacher.cache import TeacherCache
from .teacher.manifest import require_cache_folder
from .teacher.teacher import Teacher
from .training.checkpoints import model_fault

OnStage = Callable[[str, InhibiDistilBertPreTrainedModel], None]
OnEnd = Callable[[InhibiDistilBertPreTrainedModel], None]


class Distillation:
    """One run: its settings, checked at once, and the models and texts that its stages share.

    Args:
        config: what to do.
        output: the run folder; must not exist unless `resume` or `overwrite`.
        resume: go on where an interrupted run with the same settings stopped.
        overwrite: replace the run that the folder holds, once this one is finished; until then it is in OUT/.partial.
        runtime: further TrainingArguments of every trained stage, e.g. `use_cpu`, `report_to`.
        log: receives one-line progress messages, in the main process.

    Under torchrun or accelerate launch, every process makes and runs the same; stages are trained data-parallel.
    Raises ConfigError or ValueError before any work is done: also if the folder is, contains or lies inside something
    that is read, or if another process works in it.
    """

    def __init__(
        self,
        config: DistillConfig,
        output: str | Path,
        *,
        resume: bool = False,
        overwrite: bool = False,
        runtime: dict[str, Any] | None = None,
        log: Callable[[str], None] = print,
    ) -> None:
        self.config, self.runtime, self.log = config, runtime or {}, on_main_process(log)
        require_apart(output, config.inputs)
        cache = config.build_cache()
        require_cache_folder(Path(cache.folder) if cache else None, config.inputs)
        settings = dataclasses.asdict(config)
        self.folder = RunFolder(output, "distill", settings, resume=resume, overwrite=overwrite, more_to_come=True)
        self.stages = [config.build_stage(i, self._stage_folder(i), **self.runtime) for i in range(len(config.stages))]
        self.arguments = self._arguments()
        require_joined(self.arguments.world_size)
        self.folder.lock()
        try:
            self._load()
            self.folder.create(settings | {"texts": fingerprint(self.texts)} | self.weights)
        except BaseException:
            self.folder.release()
            raise

    def _load(self) -> None:
        """Read everything that the run needs, so that what is wrong with it shows before anything is written."""
        config = self.config
        self.tokenizer = load_tokenizer(config.teacher)
        wants_head = any(isinstance(stage, MaskedLMArguments) for stage in self.stages)
        self.model_class = InhibiDistilBertForMaskedLM if wants_head else InhibiDistilBertModel
        model = load_pretrained(config.teacher, AutoModelForMaskedLM if wants_head else AutoModel)
        self.layer_map = map_layers(config.layers, teacher_depth(model.config))
        for stage in self.stages:
            require_readable_lengths(stage, model.config)
        set_seed(config.seed)  # for a head that starts anew
        self.new = self._new_student(model)
        teacher_weights = model_fingerprint(model) if wants_head else encoder_fingerprint(model)
        self.weights = {"tokenizer": tokenizer_fingerprint(self.tokenizer), "teacher_weights": teacher_weights}
        if config.start:
            self.weights["start_weights"] = model_fingerprint(self.new)
        self.teacher = Teacher(model.to(self.arguments.device))
        self.texts = self._texts()
        for stage in self.stages:
            require_windows(stage, self.texts, self.tokenizer)
        cache = config.build_cache()
        self.cache = TeacherCache(cache, self.teacher, self.tokenizer, self.texts) if cache else None

    @property
    def output(self) -> Path:
        """Where the run lies: in the run folder or, until it replaces an older run there, in OUT/.partial."""
        return self.folder.path

    def run(self, on_stage: OnStage | None = None, on_end: OnEnd | None = None) -> InhibiDistilBertPreTrainedModel:
        """Run what is not finished yet; returns the student, which is also saved in the run folder.

        on_stage: called with the stage's name and the student as each stage of this call ends ("start" first).
        on_end: called with the student when it is saved, before it replaces an older run.
        """
        try:
            student = self._run(on_stage)
            if on_end:
                on_end(student)
            self.folder.finish()
        finally:
            self.folder.release()
        return student

    def _run(self, on_stage: OnStage | None) -> InhibiDistilBertPreTrainedModel:
        set_seed(self.config.seed)
        if self.folder.resume and model_fault(self.output) is None:
            self.log(f"{self.folder.output} is finished already: nothing is left to resume")
            return self._saved_student(self.output)
        finished = self._finished()
        wait_for_everyone()  # until all have seen the same: the main process is about to finish more
        student = self._student(finished)
        self.log(
            f"teacher {self.config.teacher}: {self.layer_map.teacher_depth} layers; {len(self.layer_map)} in the student"
        )
        self.log(self.layer_map.table())
        if on_stage and not finished:
            on_stage("start", student)
        for index in range(finished, len(self.stages)):
            stage, folder = self.stages[index], self._stage_folder(index)
            self.log(f"stage {index + 1} of {len(self.stages)}: {stage.name}")
            args = (student, self.teacher, self.layer_map, self.tokenizer, self.texts, folder)
            run_stage(stage, *args, cache=self.cache, log=self.log)
            save_atomically(folder / "student", student, self.tokenizer)
            if on_stage:
                on_stage(stage.name, student)
        save_into(self.output, student, self.tokenizer)
        return student

    def _arguments(self) -> TrainingArguments:
        """Of any trained stage: device and processes are the same for all."""
        trained = [stage for stage in self.stages if isinstance(stage, StageArguments)]
        return trained[0] if trained else TrainingArguments(str(self.output), **self.runtime)

    def _stage_folder(self, index: int) -> Path:
        return self.output / "stages" / f"{index + 1}-{self.config.stage_names[index]}"

    def _finished(self) -> int:
        """Number of stages until the last one whose student is there and can be loaded."""
        for index in reversed(range(len(self.stages))):
            student = self._stage_folder(index) / "student"
            if not student.is_dir():
                continue
            fault = model_fault(student)
            if fault is None:
                return index + 1
            self.log(f"{student} is damaged ({fault}): this stage is run again")
        return 0

    def _student(self, finished: int) -> InhibiDistilBertPreTrainedModel:
        if not finished:
            return self.new.to(self.arguments.device)
        self.log(f"resuming after stage {finished} of {len(self.stages)}")
        return self._saved_student(self._stage_folder(finished - 1) / "student")

    def _saved_student(self, folder: Path) -> InhibiDistilBertPreTrainedModel:
        with loading(str(folder)):
            student: InhibiDistilBertPreTrainedModel = self.model_class.from_pretrained(folder)
        return student.to(self.arguments.device)

    def _new_student(self, teacher: PreTrainedModel) -> InhibiDistilBertPreTrainedModel:
        """What the run begins with."""
        config = self.config
        if config.start:
            start = load_start(config.start, teacher.config, self.layer_map)
            return student_from_start(start, config.start, self.model_class, teacher, self.layer_map)
        return self.model_class.from_teacher(teacher, config.layers, segments=config.segments, **config.student)

    def _texts(self) -> list[Text]:
        texts: list[Text] = []
        for source, count in self.config.sources:
            limits: dict[str, Any] = {"max_texts": count, "seed": self.config.seed}
            if source == THIS_MACHINE:
                texts += english_on_this_machine(**limits)
                continue
            limits["unk_token"] = self.tokenizer.unk_token or ""
            texts += load_texts(source, **limits)
            if self.config.row_pairs:
                texts += load_pairs(source, **limits)
        kept, _ = split_held_out(texts, fraction=self.config.held_out)
        order = torch.randperm(len(kept), generator=torch.Generator().manual_seed(self.config.seed)).tolist()
        return [kept[i] for i in order]


def layer_map_of(config: DistillConfig) -> LayerMap:
    """Which teacher layer each student layer will be made from; reads the teacher's config only."""
    return map_layers(config.layers, teacher_depth(load_config(config.teacher)))
