"""What a server takes: evaluation keys and ciphertexts of its program, and nothing else."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from inhibitor_transformers.deploy.encrypted.engine.client_folder import ClientFolder
from inhibitor_transformers.deploy.encrypted.engine.program import fhe
from inhibitor_transformers.deploy.encrypted.engine.service import Service, UnknownKeysError
from inhibitor_transformers.deploy.encrypted.files import sha256
from inhibitor_transformers.deploy.encrypted.plan import EncryptedPlan
from tests.deploy.encrypted.engine.tiny import examples


@pytest.fixture(scope="module")
def compiled(shared):
    return Service.open(shared.plan, max_keys=1)


@pytest.fixture
def service(compiled):
    return Service(compiled._server, compiled.program, max_keys=1)


@pytest.fixture(scope="module")
def client(shared):
    """A client, its evaluation keys, and a request."""
    client, evaluation = ClientFolder.load(shared.client).load_keys()
    return client, evaluation, client.encrypt(examples()[0]).serialize()


def test_it_computes_the_plan(service, client, shared):
    fhe_client, evaluation, request = client
    service.add_keys(sha256(evaluation), evaluation)
    value = service.check_request(service.program.plan, sha256(request), request)
    response = service.run(service.keys(sha256(evaluation)), value)
    decrypted = fhe_client.decrypt(fhe.Value.deserialize(response))
    plan = EncryptedPlan.load(shared.plan)
    assert np.array_equal(decrypted + plan.output.low, plan.evaluate(examples())[0])


def test_other_threads_go_on_while_it_computes(service, client):
    """So that a server answers meanwhile."""
    _, evaluation, request = client
    service.add_keys(sha256(evaluation), evaluation)
    value = service.check_request(service.program.plan, sha256(request), request)
    computing, steps = threading.Thread(target=service.run, args=(service.keys(sha256(evaluation)), value)), 0
    computing.start()
    while computing.is_alive():
        time.sleep(0.001)
        steps += 1
    assert steps > 10


def test_secret_keys_are_refused(service, shared, client):
    secret = (shared.client / "keys" / "secret.key").read_bytes()
    with pytest.raises(ValueError, match=r"evaluation keys of .* bytes: exactly"):
        service.add_keys(sha256(secret), secret)
    padded = client[1] + secret[len(client[1]) :]  # evaluation keys, and secrets behind them
    with pytest.raises(ValueError, match=r"evaluation keys of .* bytes: exactly"):
        service.add_keys(sha256(padded), padded)


def test_evaluation_keys_of_another_frame(service, client):
    (first, _), (second, _) = service.program.keys.numbers  # of bootstraps, and of key switches
    for place in (0, 40, first - 1, second - 1):
        damaged = bytearray(client[1])
        damaged[place] ^= 1
        with pytest.raises(ValueError, match="evaluation keys: damaged, or made for another program"):
            service.add_keys(sha256(bytes(damaged)), bytes(damaged))


def test_evaluation_keys_of_other_numbers(service, client):
    damaged = bytearray(client[1])
    damaged[service.program.keys.numbers[0][0] + 64] ^= 1
    with pytest.raises(ValueError, match="another SHA-256 than was said"):
        service.add_keys(sha256(client[1]), bytes(damaged))


def test_the_oldest_keys_have_to_go(service, client, shared):
    one = client[1]
    second = fhe.Client(ClientFolder.load(shared.client).specs)
    second.keygen()
    two = second.evaluation_keys.serialize()
    for evaluation in (one, two):
        service.add_keys(sha256(evaluation), evaluation)
        service.keys(sha256(evaluation))
    with pytest.raises(UnknownKeysError, match="no such evaluation keys"):
        service.keys(sha256(one))


def test_a_request_for_another_plan(service, client):
    with pytest.raises(ValueError, match="for another plan than the server's"):
        service.check_request("0" * 64, sha256(client[2]), client[2])


def test_a_request_of_another_sha256(service, client):
    with pytest.raises(ValueError, match="another SHA-256 than was said: it is damaged"):
        service.check_request(service.program.plan, sha256(b""), client[2])


@pytest.mark.parametrize("damage", [lambda r: r[:-8], lambda r: r + bytes(8), lambda r: b"", lambda r: r[::-1]])
def test_garbled_requests(service, client, damage):
    request = damage(client[2])
    with pytest.raises(ValueError, match=r"ciphertext of .* bytes: exactly|ciphertext: damaged"):
        service.check_request(service.program.plan, sha256(request), request)


def test_every_byte_of_the_frame_counts(service, client):
    """A changed frame is refused before Concrete reads it."""
    request = client[2]
    inside = {i for start, length in service.program.request.numbers for i in range(start, start + length)}
    frame = set(range(len(request))) - inside
    assert len(frame) > 100
    for place in frame:
        damaged = bytearray(request)
        damaged[place] ^= 0x81
        with pytest.raises(ValueError, match="ciphertext: damaged, or made for another program"):
            service.check_request(service.program.plan, sha256(bytes(damaged)), bytes(damaged))
    assert len(inside) == examples()[0].size * 8 + 16 * examples()[0].size


def test_no_folder(tmp_path):
    with pytest.raises(ValueError, match="is no folder: inhibit encrypted plan makes one"):
        Service.open(tmp_path / "absent", 1)
