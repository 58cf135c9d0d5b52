"""What a server does for clients: keeps their evaluation keys, in memory, and computes on their ciphertexts."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from ..files import sha256
from .compiled import Program, recompile
from .program import fhe


class UnknownKeysError(ValueError):
    """The server has no such keys: it was started anew, or others took their place."""


class Service:
    """One compiled plan, and the evaluation keys of at most `max_keys` clients; who came longest ago has to go."""

    def __init__(self, server: fhe.Server, program: Program, max_keys: int) -> None:
        self.program = program
        self._server, self._max_keys = server, max_keys
        self._keys: dict[str, fhe.EvaluationKeys] = {}
        self._lock = threading.Lock()

    @classmethod
    def open(cls, folder: Path, max_keys: int) -> Service:
        """Of a plan's folder. Raises ValueError for one that was not compiled, or is damaged."""
        if not folder.is_dir():
            raise ValueError(f"{folder} is no folder: inhibit encrypted plan makes one")
        circuit, program = recompile(folder)
        return cls(circuit.server, program, max_keys)

    def add_keys(self, digest: str, content: bytes) -> None:
        """Keep evaluation keys. Raises ValueError for anything but them: they have one size and one envelope."""
        self.program.keys.check(content, "evaluation keys")
        if sha256(content) != digest:
            raise ValueError("evaluation keys have another SHA-256 than was said: they are damaged")
        keys = _parse(fhe.EvaluationKeys, content, "evaluation keys")
        with self._lock:
            self._keys.pop(digest, None)
            while len(self._keys) >= self._max_keys:
                self._keys.pop(next(iter(self._keys)))
            self._keys[digest] = keys

    def keys(self, digest: str) -> fhe.EvaluationKeys:
        """Raises UnknownKeysError if there are none."""
        with self._lock:
            keys = self._keys.pop(digest, None)
            if keys is None:
                raise UnknownKeysError("the server has no such evaluation keys")
            self._keys[digest] = keys  # the last that has to go now
        return keys

    def check_request(self, plan: str, digest: str, request: bytes) -> fhe.Value:
        """The ciphertext of a request. Raises ValueError for another plan, or anything but this plan's ciphertexts."""
        if plan != self.program.plan:
            raise ValueError("the request is for another plan than the server's")
        self.program.request.check(request, "ciphertext")
        if sha256(request) != digest:
            raise ValueError("the ciphertext has another SHA-256 than was said: it is damaged")
        return _parse(fhe.Value, request, "ciphertext")

    def run(self, keys: fhe.EvaluationKeys, value: fhe.Value) -> bytes:
        """The plan, computed on a ciphertext; other threads go on meanwhile. Raises ValueError if Concrete refuses."""
        try:
            return self._server.run(value, evaluation_keys=keys).serialize()
        except RuntimeError as error:
            raise ValueError(f"Concrete refuses the request: {_first_line(error)}") from None


def _parse(kind: Any, content: bytes, what: str) -> fhe.EvaluationKeys | fhe.Value:
    try:
        return kind.deserialize(content)
    except RuntimeError as error:
        raise ValueError(f"Concrete cannot read the {what}: {_first_line(error)}") from None


def _first_line(error: RuntimeError) -> str:
    return str(error).partition("\n")[0]
