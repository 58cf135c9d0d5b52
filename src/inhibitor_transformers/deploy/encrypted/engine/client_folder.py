"""A client's folder: what it was given, and the keys that it made."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ....common.progress import progress
from ..client_part import FILES, JSON_FILE, ClientPart
from ..files import read_json, read_private, sha256, write_folder
from .compiled import SPECS_FILE, Program
from .program import fhe

KEYS = "keys"  # the folder of keys within a client's
SECRET_FILE, EVALUATION_FILE, BINDING_FILE = "secret.key", "evaluation.key", "keys.json"


@dataclass(frozen=True, eq=False)
class ClientFolder:
    """What a client knows before it has keys. specs: Concrete's, which fix the parameters of keys and ciphertexts."""

    path: Path
    part: ClientPart
    program: Program
    specs: fhe.ClientSpecs

    @classmethod
    def load(cls, path: Path) -> ClientFolder:
        """Raises ValueError for files that are absent or damaged, or do not belong together."""
        if not path.is_dir():
            raise ValueError(f"{path} is no folder: inhibit encrypted compile makes one")
        part, program = ClientPart.load(path), _program(path)
        if part.plan != program.plan:
            raise ValueError(f"{path / JSON_FILE} is damaged: its program is of another plan")
        specs = read_private(path / SPECS_FILE, program.specs)
        return cls(path, part, program, fhe.ClientSpecs.deserialize(specs))

    def make_keys(self) -> int:
        """Make keys and write them, with what binds them to this folder's files; returns the evaluation keys' bytes.

        Raises ValueError if there are keys already: what was encrypted for them could not be decrypted again.
        """
        folder = self.path / KEYS
        if os.path.lexists(folder):
            raise ValueError(f"{self.path} has keys already: copy a new folder of the client, or remove {folder}")
        client = fhe.Client(self.specs)
        client.keygen()
        evaluation, secret = client.evaluation_keys.serialize(), client.keys.serialize()
        self.program.keys.check(evaluation, "evaluation keys")
        digests = {SECRET_FILE: sha256(secret), EVALUATION_FILE: sha256(evaluation), **self._digests()}
        with progress("writing keys"):
            write_folder(folder, {BINDING_FILE: digests}, {}, {SECRET_FILE: secret, EVALUATION_FILE: evaluation})
        return len(evaluation)

    def load_keys(self) -> tuple[fhe.Client, bytes]:
        """A client that encrypts and decrypts, and its evaluation keys.

        Raises ValueError unless secret keys, evaluation keys and all other files are those that were bound together.
        """
        folder = self.path / KEYS
        if not folder.is_dir():
            raise ValueError(f"{self.path} has no keys: run inhibit encrypted keys {self.path}")
        bound = read_json(folder / BINDING_FILE)
        if set(bound) != {SECRET_FILE, EVALUATION_FILE, *FILES, SPECS_FILE}:
            raise ValueError(f"{folder / BINDING_FILE} is damaged")
        for name, digest in self._digests().items():
            if bound[name] != digest:
                raise ValueError(f"{folder} are keys for another {name}: they belong to another client, or plan")
        evaluation = read_private(folder / EVALUATION_FILE, bound[EVALUATION_FILE])
        client = fhe.Client(self.specs)
        client.keys.load_from_bytes(read_private(folder / SECRET_FILE, bound[SECRET_FILE]))
        return client, evaluation

    def _digests(self) -> dict[str, str]:
        return {name: sha256((self.path / name).read_bytes()) for name in (*FILES, SPECS_FILE)}


def _program(path: Path) -> Program:
    saved = read_json(path / JSON_FILE).get("program")
    if not isinstance(saved, dict):
        raise ValueError(f"{path} is no client's folder: inhibit encrypted compile makes one")
    try:
        return Program.from_dict(saved)
    except ValueError as error:
        raise ValueError(f"{path / JSON_FILE}: {error}") from None
