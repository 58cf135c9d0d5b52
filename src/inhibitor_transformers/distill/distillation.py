"""Runs the stages of a distillation in order, each resumable, into one run folder.

OUT/                          the finished student: weights, config, tokenizer
OUT/run.yaml                  the settings of the run
OUT/stages/1-calibrate/student/          the student after each stage
OUT/stages/2-align_attention/checkpoint-N/  Trainer's checkpoints; log.json its log
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, TrainingArguments, set_seed

from ..common.distributed import on_main_process, require_joined, wait_for_everyone
from ..common.inputs import require_apart
from ..common.progress import Log
from ..common.settings import require
from ..models import LayerMap, map_layers
from ..models.inhibidistilbert.from_teacher import teacher_depth
from ..models.pretrained import load_config, load_tokenizer, loading
from ..tasks.modalities import load_preprocessor
from ..tasks.modalities.example import tokenizer_of
from .build_pairing import converted_pairing, encoder_pairing
from .config import DistillConfig
from .load_data import load_run_data
from .output_dir import RunFolder, save_into
from .pairing import Pairing
from .run_data import TextData
from .stages.base import ENCODERS, Models, RunContext, Stage
from .stages.run import OnStage, count_finished, run_stages, saved_student, stage_folder
from .teacher.cache import TeacherCache
from .teacher.fingerprints import encoder_fingerprint, model_fingerprint, tokenizer_fingerprint
from .teacher.storage import require_cache_folder
from .teacher.teacher import Teacher
from .training.checkpoints import model_fault

OnEnd = Callable[[PreTrainedModel], None]


class Distillation:
    """One run: its settings, checked at once, and the models and data that its stages share.

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
        log: Log = print,
    ) -> None:
        self.config, self.runtime, self.log = config, runtime or {}, on_main_process(log)
        require_apart(output, config.inputs)
        cache = config.build_cache()
        require_cache_folder(Path(cache.folder) if cache else None, config.inputs)
        settings = dataclasses.asdict(config)
        self.folder = RunFolder(output, "distill", settings, resume=resume, overwrite=overwrite, more_to_come=True)
        self.stages = [
            config.build_stage(i, stage_folder(self.output, i, name), **self.runtime)
            for i, name in enumerate(config.stage_names)
        ]
        self.models = _models_for(self.stages)
        self.arguments = self._arguments()
        require_joined(self.arguments.world_size)
        self.folder.lock()
        try:
            self._load()
            self.folder.create(settings | self.data.fingerprint() | self.weights)
        except BaseException:
            self.folder.release()
            raise

    def _load(self) -> None:
        """Read everything that the run needs, so that what is wrong with it shows before anything is written."""
        config = self.config
        self.pairing: Pairing
        if config.converts(load_config(config.teacher)):
            preprocessor = load_preprocessor(config.teacher)
            self.pairing = converted_pairing(config, preprocessor, self.stages)
            teacher_weights = model_fingerprint(self.teacher.model)
        else:
            preprocessor = load_tokenizer(config.teacher)
            self.pairing = encoder_pairing(config, self.models, self.stages)
            of_head = encoder_fingerprint if self.models == ENCODERS else model_fingerprint
            teacher_weights = of_head(self.teacher.model)
        self.weights = {"teacher_weights": teacher_weights}
        if tokenizer := tokenizer_of(preprocessor):
            self.weights = {"tokenizer": tokenizer_fingerprint(tokenizer)} | self.weights
        if config.init_from:
            self.weights["init_from_weights"] = model_fingerprint(self.pairing.student)
        for stage in self.stages:
            stage.check_pairing(self.pairing)
        self.teacher.model.to(self.arguments.device)
        self.data = load_run_data(config, preprocessor, self.teacher.model)
        for stage in self.stages:
            self.data.check(stage)
        self.cache = self._cache()

    @property
    def teacher(self) -> Teacher:
        return self.pairing.teacher

    @property
    def output(self) -> Path:
        """Where the run lies: in the run folder or, until it replaces an older run there, in OUT/.partial."""
        return self.folder.path

    def run(self, on_stage: OnStage | None = None, on_end: OnEnd | None = None) -> PreTrainedModel:
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

    def _run(self, on_stage: OnStage | None) -> PreTrainedModel:
        set_seed(self.config.seed)
        if self.folder.resume and model_fault(self.output) is None:
            self.log(f"{self.folder.output} is finished already: nothing is left to resume")
            return self._saved_student(self.output)
        names = self.config.stage_names
        finished = count_finished(self.output, names, self.log)
        wait_for_everyone()  # until all have seen the same: the main process is about to finish more
        if finished:
            self.log(f"resuming after stage {finished} of {len(names)}")
            student = self._saved_student(saved_student(self.output, finished - 1, names[finished - 1]))
        else:
            student = self.pairing.student.to(self.arguments.device)
        for line in self.pairing.describe(self.config.teacher):
            self.log(line)
        if on_stage and not finished:
            on_stage("start", student)
        context = RunContext(self.pairing.with_student(student), self.data, self.output, cache=self.cache, log=self.log)
        run_stages(self.stages, context, finished=finished, on_stage=on_stage)
        save_into(self.output, student, self.data.preprocessor)
        return student

    def _cache(self) -> TeacherCache | None:
        cache = self.config.build_cache()
        if cache is None or not isinstance(self.data, TextData):
            return None
        return TeacherCache(cache, self.teacher, self.data.tokenizer, self.data.texts)

    def _arguments(self) -> TrainingArguments:
        """Of any trained stage: device and processes are the same for all."""
        trained = [arguments for stage in self.stages if (arguments := stage.trainer_arguments) is not None]
        return trained[0] if trained else TrainingArguments(str(self.output), **self.runtime)

    def _saved_student(self, folder: Path) -> PreTrainedModel:
        with loading(str(folder)):
            student: PreTrainedModel = type(self.pairing.student).from_pretrained(folder)
        return student.to(self.arguments.device)


def _models_for(stages: list[Stage]) -> Models:
    """What student and teacher are loaded as for all stages. Raises ConfigError if they need different heads."""
    heads = {stage.models: stage.name for stage in stages if stage.models != ENCODERS}
    require(len(heads) < 2, f"{' and '.join(heads.values())} need models with different heads: run them one by one")
    return next(iter(heads), ENCODERS)


def load_layer_map(config: DistillConfig) -> LayerMap:
    """Which teacher layer each student layer will be made from; reads the teacher's config only."""
    return map_layers(config.layers, teacher_depth(load_config(config.teacher)))


def describe_layers(config: DistillConfig) -> list[str]:
    """What the student of a run will be, in lines: its layers, or what of the teacher is converted."""
    if not config.converts(load_config(config.teacher)):
        return [load_layer_map(config).table()]
    pairing = converted_pairing(config, load_preprocessor(config.teacher), [])
    return pairing.describe(config.teacher)
