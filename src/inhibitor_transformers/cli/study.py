"""`inhibit study`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from .console import log
from .console import output as stdout
from .options import Output, Resume, Set, quiet, resolve_model


def study(
    config: Annotated[Path, typer.Argument(help="YAML with the models, tasks, seeds and the schedule (see configs/).")],
    output: Output,
    set_: Set = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Fine-tunings at a time.")] = 1,
    threads: Annotated[int, typer.Option("--threads", min=1, help="CPU threads of each.")] = 1,
    card: Annotated[
        Path | None, typer.Option(help="Also write the tables into the model card (README.md) of this student.")
    ] = None,
    table_only: Annotated[bool, typer.Option("--table-only", help="Print the tables of what is finished.")] = False,
    resume: Resume = False,
) -> None:
    """Fine-tune several models on several tasks and seeds, and print the table; interrupted, it goes on."""
    from ..common.inputs import require_apart
    from ..common.settings import build, load_yaml, override, require
    from ..report import print_table, require_own_card, write_card
    from ..study import Study, StudyConfig, run_study
    from ..study.run import RECORD
    from ..study.table import drop_table, rate_table, score_table, speed_table

    quiet(threads)
    require_apart(output, {"config": config})
    settings = override(load_yaml(config), set_ or [])
    built: StudyConfig = build(StudyConfig, settings, where="the study")
    resolved = {name: dataclasses.asdict(row) | {"model": resolve_model(row.model)} for name, row in built.rows.items()}
    built = dataclasses.replace(built, models=resolved)
    if card is not None:
        require_own_card(card, [row.model for row in built.rows.values()])
    if table_only:
        require((output / RECORD).is_file(), f"there is no study in {output} (no {RECORD})")
        finished = Study(built, output)
    else:
        finished = run_study(
            built,
            output,
            jobs=jobs,
            threads=threads,
            resume=resume,
            log=log,
        )
    tables = [score_table(finished), drop_table(finished), rate_table(finished), speed_table(finished)]
    for table in tables:
        if table.rows:
            print_table(table, stdout())
    if card is not None:
        log(f"tables written to {write_card(card, tables)}")
