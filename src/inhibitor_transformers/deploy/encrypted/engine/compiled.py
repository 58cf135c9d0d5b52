"""Compiled programs: made once of a plan, described in files that bind server and clients to each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ....common.progress import progress
from ..client_part import ClientPart
from ..files import json_bytes, read_json, require_new, sha256, write_folder, write_private
from ..plan import EncryptedPlan
from . import GLOBAL_P_ERROR, VERSION
from .envelope import Envelope
from .program import compile_plan, fhe

PROGRAM_FILE, SPECS_FILE = "program.json", "specs.json"


@dataclass(frozen=True)
class Program:
    """A compiled program: what server and client have to agree on.

    plan, specs: SHA-256 of the plan and of Concrete's client specs, which fix all parameters of encryption.
    global_p_error: the chance that an example comes out wrong is at most this. keys, request, response: envelopes.
    """

    plan: str
    specs: str
    global_p_error: float
    keys: Envelope
    request: Envelope
    response: Envelope
    engine: str = VERSION

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Program:
        """Raises ValueError for others than `as_dict` writes, and for programs of another version of Concrete."""
        try:
            envelopes = {name: Envelope.from_dict(saved[name]) for name in ("keys", "request", "response")}
            engine, p_error = str(saved["engine"]), float(saved["global_p_error"])
            program = cls(str(saved["plan"]), str(saved["specs"]), p_error, **envelopes, engine=engine)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"this describes no compiled program: {error!r}") from None
        if engine != VERSION:
            raise ValueError(f"compiled with concrete-python {engine}, this is {VERSION}")
        return program


def load_program(folder: Path, file: str = PROGRAM_FILE) -> Program:
    """Of a plan's folder. Raises ValueError if the plan was not compiled, or the file is damaged."""
    if folder.is_dir() and not (folder / file).exists():
        raise ValueError(f"{folder} holds no {file}: run inhibit encrypted compile first")
    try:
        return Program.from_dict(read_json(folder / file))
    except ValueError as error:
        raise ValueError(f"{folder / file}: {error}") from None


def compile_folder(folder: Path, client: Path, global_p_error: float = GLOBAL_P_ERROR) -> Program:
    """Compile the plan of `folder`, write program.json there, and make a new folder for clients.

    Another client of a plan that was compiled before gets the same program. Raises ValueError for a plan that cannot
    be read or compiled, for a client's folder that exists, and if program.json is of other parameters.
    """
    if not 0 < global_p_error < 1:
        raise ValueError(f"the error probability must be between 0 and 1, got {global_p_error}")
    require_new(client)
    plan, part = EncryptedPlan.load(folder), ClientPart.load(folder)
    if part.plan != plan.digest:
        raise ValueError(f"{folder}: plan and client do not belong together; make the folder anew")
    circuit = _compile(plan, global_p_error)
    specs = circuit.server.client_specs.serialize()
    if (folder / PROGRAM_FILE).exists():
        program = load_program(folder)
        if (program.plan, program.specs) != (plan.digest, sha256(specs)):
            raise ValueError(
                f"{folder} was compiled at an error probability of {program.global_p_error:g}, and its clients have "
                "the parameters of then: compile a plan in another folder, or remove program.json"
            )
    else:
        with progress("computing samples"):
            program = _describe(plan, circuit, specs, global_p_error)
        write_private(folder / PROGRAM_FILE, json_bytes(program.as_dict()))
    # Clients get the specs from here, never from the server that they will ask: a server could choose weak parameters.
    write_folder(client, {}, {}, {**part.files(program.as_dict()), SPECS_FILE: specs})
    return program


def recompile(folder: Path) -> tuple[fhe.Circuit, Program]:
    """The circuit of a folder that `compile_folder` wrote. Raises ValueError if it is not the same program."""
    program, plan = load_program(folder), EncryptedPlan.load(folder)
    if program.plan != plan.digest:
        raise ValueError(f"{folder}: {PROGRAM_FILE} is of another plan, or the plan is damaged")
    circuit = _compile(plan, program.global_p_error)
    if sha256(circuit.server.client_specs.serialize()) != program.specs:
        raise ValueError(f"{folder}: the plan compiles to other parameters here than the clients have")
    return circuit, program


def _compile(plan: EncryptedPlan, global_p_error: float) -> fhe.Circuit:
    """Raises ValueError if Concrete has no parameters that are safe and exact enough."""
    try:
        with progress("compiling"):
            return compile_plan(plan, global_p_error=global_p_error)
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"Concrete cannot compile this plan at an error of {global_p_error:g}: {reason}") from None


def _describe(plan: EncryptedPlan, circuit: fhe.Circuit, specs: bytes, global_p_error: float) -> Program:
    """Run two examples under keys that are thrown away. Raises ValueError if one decrypts to anything but the plan's.

    Messages of two examples and keys of two clients show the envelopes.
    """
    clients = [fhe.Client(fhe.ClientSpecs.deserialize(specs)) for _ in range(2)]
    for client in clients:
        client.keygen()
    inputs = np.random.default_rng(0).integers(plan.input.low, plan.input.high, (2, *plan.input.shape), endpoint=True)
    requests = [clients[0].encrypt(example) for example in inputs]
    responses = [circuit.server.run(request, evaluation_keys=clients[0].evaluation_keys) for request in requests]
    decrypted = np.stack([clients[0].decrypt(response) for response in responses])
    if not np.array_equal(decrypted + plan.output.low, plan.evaluate(inputs)):
        raise ValueError(
            f"a sample was decrypted to other integers than the plan's. By chance this happens in at most "
            f"{2 * global_p_error:g} of all cases: compile once more, or at a smaller error probability"
        )
    return Program(
        plan.digest,
        sha256(specs),
        global_p_error,
        keys=Envelope.of(*(client.evaluation_keys.serialize() for client in clients)),
        request=Envelope.of(*(request.serialize() for request in requests)),
        response=Envelope.of(*(response.serialize() for response in responses)),
    )
