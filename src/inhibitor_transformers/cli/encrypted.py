"""`inhibit encrypted`: train, plan and serve a classifier that computes on ciphertexts, and ask it.

`train` runs in the environment of the package, `plan` there and in the engine's, all others in the engine's, which has
neither transformers nor datasets.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from ..deploy.encrypted.engine import GLOBAL_P_ERROR
from ..deploy.encrypted.engine.protocol import HOST, PORT
from .console import log, log_to_stderr, output
from .options import Data, Seed

PlanFolder = Annotated[Path, typer.Argument(metavar="PLAN", help="Folder that `inhibit encrypted plan` made.")]
ClientFolder = Annotated[Path, typer.Argument(metavar="CLIENT", help="Folder that `inhibit encrypted compile` made.")]


def train(
    task: Annotated[str, typer.Argument(help="digits (of scikit-learn) or sst2.")],
    output_folder: Annotated[
        Path,
        typer.Option("--output", "-o", help="New folder for the model, its encoder and examples of its test split."),
    ],
    attention: Annotated[str, typer.Option(help="inhibitor, or for comparison softmax or relu.")] = "inhibitor",
    tied: Annotated[bool, typer.Option("--tied", help="Keys are the queries: fewer bootstraps.")] = False,
    tokens: Annotated[
        int | None, typer.Option(min=1, help="Of an example: 4 (default) or 8 for digits, 8 by default for sst2.")
    ] = None,
    data: Data = None,
    seed: Seed = 0,
) -> None:
    """Train a classifier of one attention layer in small integers, for encrypted inference: a minute on one core."""
    from ..deploy.encrypted.files import require_new
    from ..deploy.encrypted.training.train import save_trained, train_classifier

    require_new(output_folder)
    trained = train_classifier(task, attention=attention, tied=tied, tokens=tokens, data=data, seed=seed)  # type: ignore[arg-type]
    save_trained(output_folder, trained)
    before, validation, test = (f"{100 * score:.1f}" for score in trained.scores.values())
    log(f"accuracy on validation {validation} % ({before} % before quantization), on test {test} %")
    log(
        f"{trained.classifier.plan().bootstraps} bootstraps; next: inhibit encrypted plan {output_folder} --output PLAN"
    )


def plan(
    model: Annotated[Path, typer.Argument(help="Folder of a classifier that was trained for encryption.")],
    output_folder: Annotated[
        Path, typer.Option("--output", "-o", help="New folder for the plan: the server's, with the model's weights.")
    ],
    max_table_bits: Annotated[
        int | None, typer.Option("--max-table-bits", min=1, max=16, help="Refuse lookup tables wider than this.")
    ] = None,
) -> None:
    """Turn a trained classifier into a plan: every range proven, every bootstrap counted.

    Needs no concrete-python.
    """
    from ..deploy.encrypted.client_part import ClientPart
    from ..deploy.encrypted.files import require_new
    from ..deploy.encrypted.graph import MAX_TABLE_BITS
    from ..deploy.encrypted.saved import load_model

    require_new(output_folder)
    classifier, encoder, info = load_model(model)
    made = classifier.plan(max_table_bits=max_table_bits or MAX_TABLE_BITS)
    made.save(output_folder, ClientPart.of(made, tuple(info.get("labels", ())), encoder).files())
    # Rich's own table: the engine's environment lacks what `report` imports.
    table = Table("lookup", "bootstraps", "bits", "least input", "greatest input")
    for lookup in made.tables:
        table.add_row(*map(str, (lookup.name, lookup.bootstraps, lookup.bits, lookup.low, lookup.high)))
    output().print(table)
    log(f"{made.bootstraps} bootstraps of up to {made.table_bits} bits: cost {made.cost:.1f}e9 in Concrete's model")
    log(f"plan {made.digest[:12]}… in {output_folder}; next: inhibit encrypted compile {output_folder} --client CLIENT")


def compile(
    plan: PlanFolder,
    client: Annotated[Path, typer.Option("--client", help="New folder for clients, which holds no secret yet.")],
    global_p_error: Annotated[
        float, typer.Option("--global-p-error", help="Chance, at most, that an example comes out wrong.")
    ] = GLOBAL_P_ERROR,
) -> None:
    """Compile a plan for ciphertexts, and make the folder that clients get.

    Clients have to get that folder from whom they trust: it fixes the parameters of their encryption.
    """
    _require_engine()
    from ..deploy.encrypted.engine.compiled import compile_folder

    program = compile_folder(plan, client, global_p_error)
    log(
        f"{plan} is compiled: requests of {program.request.size:,} bytes, answers of {program.response.size:,}, "
        f"evaluation keys of {program.keys.size / 1e6:.1f} MB"
    )
    log(f"{client} is for clients; next: inhibit encrypted keys {client}")


def keys(client: ClientFolder) -> None:
    """Make a client's keys. The secret key stays in its folder; evaluation keys are what servers get."""
    _require_engine()
    from ..deploy.encrypted.engine import client_folder

    loaded = client_folder.ClientFolder.load(client)
    log("making keys: some seconds, in which nothing moves")  # Concrete holds Python's lock: no bar could go on
    size = loaded.make_keys()
    folder = client / client_folder.KEYS
    log(f"{folder / client_folder.SECRET_FILE}: keep it to yourself, whoever has it reads all that you encrypt")
    log(f"{folder / client_folder.EVALUATION_FILE}: {size / 1e6:.1f} MB, sent to the servers that you ask")


def serve(
    plan: PlanFolder,
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help=f"Port of {HOST}, the only address.")] = PORT,
    max_keys: Annotated[
        int, typer.Option("--max-keys", min=1, help="Clients whose evaluation keys are kept, in memory only.")
    ] = 4,
    max_waiting: Annotated[
        int, typer.Option("--max-waiting", min=0, help="Requests that may wait for the one that is computed.")
    ] = 8,
) -> None:
    """Compute a plan on ciphertexts, for clients on this machine, until Ctrl-C."""
    _require_engine()
    from ..deploy.encrypted.engine.server import serve as run
    from ..deploy.encrypted.engine.service import Service

    run(Service.open(plan, max_keys), port, max_waiting, lambda url: log(f"serving {plan} at {url}; Ctrl-C stops it"))
    log("stopped")


def ask(
    client: ClientFolder,
    url: Annotated[str, typer.Option("--url", help="The server's address.")] = f"http://{HOST}:{PORT}",
    input_file: Annotated[
        Path | None,
        typer.Option("--input", help="Raw data: a batch of arrays (.npy or .json), or a list of texts (.json)."),
    ] = None,
    text: Annotated[list[str] | None, typer.Option("--text", help="A text to classify; repeatable.")] = None,
    timeout: Annotated[float, typer.Option("--timeout", help="Seconds to wait for each answer.")] = 600.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print labels and logits as JSON.")] = False,
) -> None:
    """Encrypt data, let a server compute on them, check its answers and decrypt them."""
    if (input_file is None) == (not text):
        raise ValueError("give either --input or --text")
    _require_engine()
    from ..deploy.encrypted.engine.ask import ask as run
    from ..deploy.encrypted.engine.ask import read_input

    answers = run(client, read_input(input_file) if input_file else text, url, timeout)
    if as_json:
        log(json.dumps([{"label": answer.label, "logits": answer.logits.tolist()} for answer in answers]))
        return
    for answer in answers:
        log(f"{answer.label}  logits {' '.join(map(str, answer.logits.tolist()))}")


def _require_engine() -> None:
    """Raises ValueError where concrete-python is not installed; else its license is said."""
    from ..deploy.encrypted.engine import LICENSE_NOTICE, require_engine

    require_engine()
    log_to_stderr(LICENSE_NOTICE)


COMMANDS = (train, plan, compile, keys, serve, ask)
