"""`inhibit distill`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .console import log
from .options import (
    Device,
    Output,
    Overwrite,
    ReportTo,
    Resume,
    SeedInsteadOfYaml,
    Set,
    Threads,
    choose_device,
    quiet,
    resolve_model,
)


def distill(
    config: Annotated[Path, typer.Argument(help="YAML with the teacher, the texts and the stages (see configs/).")],
    output: Output,
    set_: Set = None,
    teacher: Annotated[str | None, typer.Option(help="Folder, Hub id or 'minilm', instead of the YAML's.")] = None,
    text: Annotated[
        list[str] | None,
        typer.Option(help="Text instead of the YAML's: file, folder, Hub id, or 'this-machine'; repeatable."),
    ] = None,
    images: Annotated[
        str | None, typer.Option(help="Images instead of the YAML's data: folder, file or Hub id.")
    ] = None,
    audio: Annotated[
        str | None, typer.Option(help="Recordings instead of the YAML's data: folder, file or Hub id.")
    ] = None,
    layers: Annotated[
        str | None,
        typer.Option(help='Teacher layers to copy, instead of the YAML\'s: "all", "every 2nd", "first 3" or "0,2,4".'),
    ] = None,
    init_from: Annotated[
        str | None, typer.Option(help="Start from the student of an earlier run, a folder or Hub id.")
    ] = None,
    seed: SeedInsteadOfYaml = None,
    report_to: ReportTo = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the settings and show the layers; run nothing.")
    ] = False,
    resume: Resume = False,
    overwrite: Overwrite = False,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Distill a student from a teacher through the stages of a YAML."""
    from ..common.inputs import require_apart
    from ..common.settings import Flag, load_yaml, override

    require_apart(output, {"config": config})
    data = {"text": text, "images": images, "audio": audio}
    given = {"teacher": teacher, "layers": layers, "init_from": init_from, "seed": seed} | data
    flags = {name: Flag(f"--{name.replace('_', '-')}", value) for name, value in given.items()}
    settings = load_yaml(config)
    if any(data.values()):
        settings = {name: value for name, value in settings.items() if name not in data}
    run_distillation(
        override(settings, set_ or [], flags),
        output,
        dry_run=dry_run,
        resume=resume,
        overwrite=overwrite,
        device=device,
        threads=threads,
        report_to=report_to,
    )


def run_distillation(
    settings: dict[str, Any],
    output: Path,
    *,
    dry_run: bool = False,
    resume: bool = False,
    overwrite: bool = False,
    device: str = "auto",
    threads: int | None = None,
    report_to: str | None = None,
) -> None:
    """Check the settings of a run, then run it (or, for a dry run, only show its layers and stages)."""
    from ..common.inputs import require_apart
    from ..common.output_dir import OutputDir
    from ..common.settings import build
    from ..distill import Distillation, DistillConfig
    from ..distill.distillation import describe_layers

    runtime = choose_device(device) | ({"report_to": report_to} if report_to else {})
    quiet(threads)
    if "teacher" in settings:
        settings["teacher"] = resolve_model(settings["teacher"])
    config = build(DistillConfig, settings, where="the run")
    if dry_run:
        require_apart(output, config.inputs)
        OutputDir(output, "distill", resume=resume, overwrite=overwrite)
        for index in range(len(config.stages)):
            config.build_stage(index, output, **runtime)
        for line in describe_layers(config):
            log(line)
        log("stages: " + ", ".join(config.stage_names))
        return
    Distillation(config, output, resume=resume, overwrite=overwrite, runtime=runtime, log=log).run()
    log(f"student saved in {output}")
