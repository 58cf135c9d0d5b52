"""`inhibit finetune`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .console import log
from .console import output as stdout
from .options import (
    Data,
    Device,
    LabelColumn,
    MaxEvalExamples,
    Output,
    Overwrite,
    ReportTo,
    Resume,
    SeedOverYaml,
    TextColumns,
    Threads,
    choose_device,
    quiet,
    resolve_model,
)


def finetune(
    model: Annotated[
        str, typer.Argument(help="Model to fine-tune, inhibitor or softmax: a folder, a Hub id or 'minilm'.")
    ],
    task: Annotated[
        str,
        typer.Option("--task", help="cola, mnli, mrpc, qnli, qqp, rte, sst2, stsb, wnli, imdb, or custom: your own."),
    ],
    output: Output,
    data: Data = None,
    teacher: Annotated[
        str | None,
        typer.Option(help="Model fine-tuned on the same task, to distill from; without it, train on the labels alone."),
    ] = None,
    teacher_base: Annotated[
        str | None,
        typer.Option(
            help="Model that the teacher was fine-tuned from: what fine-tuning changed in the teacher's weights (its "
            "task vector) is added to the model's before training."
        ),
    ] = None,
    epochs: Annotated[float | None, typer.Option(help="Passes over the training data; 3 by default.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate; 1e-4 by default.")] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Examples per training step and device; 32 by default.")
    ] = None,
    max_train_examples: Annotated[
        int | None, typer.Option(help="Train on this many examples, drawn at random.")
    ] = None,
    max_eval_examples: MaxEvalExamples = None,
    text_columns: TextColumns = None,
    label_column: LabelColumn = None,
    config: Annotated[Path | None, typer.Option(help="YAML with training settings; flags override them.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Override a training setting, such as warmup_steps=100 (TrainingArguments, and those of "
            "docs/reference/configuration.md); repeatable.",
        ),
    ] = None,
    report_to: ReportTo = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    seed: SeedOverYaml = None,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Fine-tune on GLUE, IMDB or your own data.

    With --teacher, a model fine-tuned on the same task, the model learns from its logits as well as from the labels.
    """
    from ..common.inputs import require_apart
    from ..common.number_ranges import TRAINING, check_number
    from ..common.settings import Flag, build, load_yaml, override
    from ..distill.task import FinetuneArguments, FineTuning
    from ..evaluation.tables import print_scores
    from ..tasks import load_task

    # All of them, before the data is read: a name that two flags share shows here first.
    named = {"model": model, "data": data, "teacher": teacher, "teacher's base": teacher_base, "config": config}
    require_apart(output, named)
    runtime = choose_device(device)
    quiet(threads)
    numbers = {
        "seed": Flag("--seed", seed),
        "num_train_epochs": Flag("--epochs", epochs),
        "learning_rate": Flag("--learning-rate", learning_rate),
        "per_device_train_batch_size": Flag("--batch-size", batch_size),
    }
    for name, flag in numbers.items():
        check_number(flag.name, flag.value, TRAINING[name])
    flags = numbers | {"report_to": Flag("--report-to", report_to)}
    settings = {"seed": 0} | override(load_yaml(config) if config else {}, set_ or [], flags) | runtime
    arguments = build(FinetuneArguments, settings, where="fine-tuning")
    loaded = load_task(
        task,
        data,
        seed=arguments.seed,
        max_train_examples=max_train_examples,
        max_eval_examples=max_eval_examples,
        text_columns=text_columns,
        label_column=label_column,
    )
    run = FineTuning(
        resolve_model(model),
        loaded,
        arguments,
        output,
        teacher_source=resolve_model(teacher) if teacher else None,
        teacher_base=resolve_model(teacher_base) if teacher_base else None,
        resume=resume,
        overwrite=overwrite,
        log=log,
    )
    result = run.run()
    others = {
        "before training": result.initial_scores,
        "aligned": result.aligned_scores,
        "teacher": result.teacher_scores,
    }
    rows = {"model": result.scores} | {name: scores for name, scores in others.items() if scores}
    print_scores(f"{task}, {result.seconds:.0f} s", rows, stdout())
    log(f"saved in {output}")
