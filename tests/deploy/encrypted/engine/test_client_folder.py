"""A client's folder: keys that are made once, and bound to everything that they were made with."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from inhibitor_transformers.deploy.encrypted.engine.client_folder import ClientFolder
from tests.deploy.encrypted.engine.tiny import examples

KEY_FILES = ("secret.key", "evaluation.key", "keys.json")


def test_keys_are_made_once(folders):
    before = (folders.client / "keys" / "secret.key").read_bytes()
    with pytest.raises(ValueError, match="has keys already: copy a new folder of the client"):
        ClientFolder.load(folders.client).make_keys()
    assert (folders.client / "keys" / "secret.key").read_bytes() == before


def test_evaluation_keys_hold_no_secret(shared):
    client, evaluation = ClientFolder.load(shared.client).load_keys()
    bits = secret_bits((shared.client / "keys" / "secret.key").read_bytes())
    assert 0.4 < bits.mean() < 0.6
    for dtype in ("<u8", "<u4", "u1"):
        assert bits.astype(dtype).tobytes() not in evaluation
    assert client.evaluation_keys.serialize() == evaluation


def test_one_input_is_never_encrypted_to_the_same_bytes(shared):
    """Neither by one client nor by two processes, as two loads are."""
    example, made = examples()[0], set()
    for _ in range(2):
        client, _ = ClientFolder.load(shared.client).load_keys()
        made |= {client.encrypt(example).serialize() for _ in range(3)}
    assert len(made) == 6


def test_a_folder_without_keys(folders):
    shutil.rmtree(folders.client / "keys")
    with pytest.raises(ValueError, match="has no keys: run inhibit encrypted keys"):
        ClientFolder.load(folders.client).load_keys()


def test_secret_keys_of_another_run(folders, other):
    shutil.copy(other.client / "keys" / "secret.key", folders.client / "keys" / "secret.key")
    with pytest.raises(ValueError, match=r"secret.key is damaged, or belongs to another folder"):
        ClientFolder.load(folders.client).load_keys()


def test_keys_of_another_plan(folders, other):
    shutil.rmtree(folders.client / "keys")
    shutil.copytree(other.client / "keys", folders.client / "keys")
    with pytest.raises(ValueError, match=r"are keys for another client.json"):
        ClientFolder.load(folders.client).load_keys()


@pytest.mark.parametrize("name", ["client.npz", "specs.json", *(f"keys/{name}" for name in KEY_FILES)])
@pytest.mark.parametrize("damage", ["truncated", "one bit", "absent"])
def test_a_damaged_file(folders, name, damage):
    file = folders.client / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "absent":
        file.unlink()
    else:
        file.write_bytes(content if damage == "one bit" else content[:-9])
    with pytest.raises(ValueError, match=rf"{file.name}|keys for another client.json"):
        ClientFolder.load(folders.client).load_keys()


@pytest.mark.parametrize("name", ["plan", "labels", "arrays"])
def test_a_client_description_that_was_changed(folders, name):
    file = folders.client / "client.json"
    said = json.loads(file.read_text())
    file.write_text(json.dumps(said | {name: ["dog", "cat"] if name == "labels" else "0" * 64}))
    with pytest.raises(ValueError, match=r"client.json"):
        ClientFolder.load(folders.client).load_keys()


def test_a_plans_folder_is_no_clients(shared):
    with pytest.raises(ValueError, match="is no client's folder"):
        ClientFolder.load(shared.plan)


def test_no_folder(tmp_path):
    with pytest.raises(ValueError, match="is no folder: inhibit encrypted compile makes one"):
        ClientFolder.load(tmp_path / "absent")


def secret_bits(content: bytes) -> np.ndarray:
    """The longest run of words that are 0 or 1, less zeros at its ends: a binary secret key."""
    numbers = np.frombuffer(content, "<u8")
    edges = np.flatnonzero(np.diff(numbers <= 1, prepend=False, append=False)).reshape(-1, 2)
    start, end = max(edges, key=lambda edge: edge[1] - edge[0])
    return np.trim_zeros(numbers[start:end])
