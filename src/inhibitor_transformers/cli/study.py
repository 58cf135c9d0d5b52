"""`inhibit study`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from .console import log
from .console import output as stdout
from .options import Resume, quiet, resolve_model


def study(
    config: Annotated[
        Path, typer.Argument(help="YAML with models, tasks, seeds and training settings (see configs/studies).")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder to write to; a study that is in it goes on with --resume.")
    ],
    data: Annotated[
        Path | None, typer.Option(help="Folder of the tasks' data, instead of the YAML's; without either, the Hub.")
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            metavar="OLD=NEW",
            help="Replace a model that the YAML names by another folder or Hub id, in every row: "
            "--model runs/student=my-student; repeatable.",
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a setting of the YAML: seeds=[0,1]; repeatable."),
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Models to fine-tune at the same time.")] = 1,
    threads: Annotated[int, typer.Option("--threads", min=1, help="CPU threads of each job.")] = 1,
    card: Annotated[
        Path | None, typer.Option(help="Also write the tables into the model card (README.md) in this model's folder.")
    ] = None,
    table_only: Annotated[
        bool, typer.Option("--table-only", help="Train nothing; print the tables of what is finished.")
    ] = False,
    resume: Resume = False,
) -> None:
    """Compare models on several tasks and seeds in one table.

    Every model is fine-tuned on every task with every seed, all with one schedule.
    """
    from ..common.inputs import require_apart
    from ..common.settings import Flag, build, load_yaml, override, require
    from ..report import print_table, require_own_card, write_card
    from ..study import Study, StudyConfig, run_study
    from ..study.record import RECORD
    from ..study.table import drop_table, rate_table, score_table, speed_table

    quiet(threads)
    require_apart(output, {"config": config, "data": data})
    flags = {"data": Flag("--data", None if data is None else str(data))}
    settings = override(load_yaml(config), set_ or [], flags)
    built: StudyConfig = build(StudyConfig, settings, where="the study")
    built = built.replace_models(_replacements(models or []))
    resolved = {name: dataclasses.asdict(row) | {"model": resolve_model(row.model)} for name, row in built.rows.items()}
    built = dataclasses.replace(built, models=resolved)
    if card is not None:
        require_own_card(card, [row.model for row in built.rows.values()])
    if table_only:
        require((output / RECORD).is_file(), f"there is no study in {output} (no {RECORD})")
        finished = Study(built, output)
    else:
        finished = run_study(built, output, jobs=jobs, threads=threads, resume=resume, log=log)
    tables = [score_table(finished), drop_table(finished), rate_table(finished), speed_table(finished)]
    for table in tables:
        if table.rows:
            print_table(table, stdout())
    if card is not None:
        log(f"tables written to {write_card(card, tables)}")


def _replacements(assignments: list[str]) -> dict[str, str]:
    """New model by old model."""
    from ..common.settings import require

    sources: dict[str, str] = {}
    for assignment in assignments:
        old, equals, new = assignment.partition("=")
        require(bool(old and equals and new), f"cannot read --model {assignment!r}; write OLD=NEW")
        require(old not in sources, f"{old!r} is replaced twice (--model {assignment}); keep one of them")
        sources[old] = new
    return sources
