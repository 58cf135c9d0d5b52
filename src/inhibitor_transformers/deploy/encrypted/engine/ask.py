"""A client's request: encode, encrypt, ask, check, decrypt."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ....common.progress import progress
from ..graph import Array
from .client_folder import ClientFolder
from .connection import Connection
from .program import fhe


@dataclass(frozen=True)
class Answer:
    """label: of the class, or its number where classes have no names. logits: (C,) int64, exact integers."""

    label: str
    logits: Array


def read_input(file: Path) -> Any:
    """Raw data of an .npy or .json file: an array, or a list of texts. Raises ValueError for other files."""
    if file.suffix not in (".npy", ".json"):
        raise ValueError(f"{file}: inputs are .npy or .json files")
    try:
        if file.suffix == ".npy":
            return np.load(file, allow_pickle=False)
        content = json.loads(file.read_text(encoding="utf-8"))
        return content if _is_texts(content) else np.asarray(content)
    except FileNotFoundError:
        raise ValueError(f"{file} is absent") from None
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{file} cannot be read: {error}") from None


def ask(folder: Path, raw: Any, url: str, timeout: float) -> list[Answer]:
    """Answers to a batch of raw data, each encrypted, computed by the server at `url`, checked and decrypted.

    Raises ValueError before anything is sent if the folder, its keys or the data are not right, and for servers that
    cannot be reached or answer for another plan, other keys or another request.
    """
    client_folder = ClientFolder.load(folder)
    levels = client_folder.part.encode(raw)
    connection = Connection(url, client_folder.program, timeout)
    with progress("loading keys"):
        client, evaluation = client_folder.load_keys()
    connection.check_plan()
    answers = []
    with progress("waiting for the server", len(levels), "examples") as advance:
        for example in levels:
            request = client.encrypt(example).serialize()
            client_folder.program.request.check(request, "ciphertext")
            response = connection.run(request, evaluation)
            answers.append(_answer(client_folder, client, response))
            advance(1)
    return answers


def _answer(folder: ClientFolder, client: fhe.Client, response: bytes) -> Answer:
    """Decrypt a response that has been checked. Raises ValueError for numbers that the plan cannot compute."""
    part = folder.part
    logits = part.decode(np.asarray(client.decrypt(fhe.Value.deserialize(response))))
    best = int(logits.argmax())
    return Answer(part.labels[best] if part.labels else str(best), logits)


def _is_texts(content: Any) -> bool:
    return isinstance(content, list) and all(isinstance(text, str) for text in content)
