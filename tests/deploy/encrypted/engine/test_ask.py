"""A client against servers that are right, wrong, absent, or answer anything: it decrypts a right answer only."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest

from inhibitor_transformers.deploy.encrypted.engine.ask import ask, read_input
from inhibitor_transformers.deploy.encrypted.engine.client_folder import ClientFolder
from inhibitor_transformers.deploy.encrypted.engine.program import fhe
from inhibitor_transformers.deploy.encrypted.engine.protocol import KEYS, KEYS_PATH, PLAN, REQUEST, RESPONSE
from inhibitor_transformers.deploy.encrypted.engine.service import Service
from inhibitor_transformers.deploy.encrypted.files import sha256
from inhibitor_transformers.deploy.encrypted.plan import EncryptedPlan
from tests.deploy.encrypted.engine.conftest import free_port
from tests.deploy.encrypted.engine.tiny import LABELS, examples

SHORT = 20.0  # seconds; only a server that never answers is waited for as long


class Wire:
    """A server over HTTP that answers by the real service, but for what a test changes."""

    def __init__(self, service: Service) -> None:
        self.service, self.program = service, service.program
        self.received: list[bytes] = []
        self.said = {"plan": self.program.plan, "specs": self.program.specs}
        self.change: Callable[[bytes, dict[str, str]], bytes | None] = lambda response, headers: response
        self.status = 200

    def plan(self) -> tuple[int, dict[str, str], bytes]:
        return 200, {}, json.dumps(self.said).encode()

    def put(self, digest: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        self.service.add_keys(digest, body)
        return 204, {}, b""

    def run(self, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes] | None:
        try:
            keys = self.service.keys(headers[KEYS])
        except ValueError:
            return 404, {}, b"{}"
        response = self.service.run(keys, self.service.check_request(headers[PLAN], headers[REQUEST], body))
        named = {name: headers[name] for name in (PLAN, KEYS, REQUEST)} | {RESPONSE: sha256(response)}
        changed = self.change(response, named)
        return None if changed is None else (self.status, named, changed)

    @contextmanager
    def listening(self) -> Iterator[str]:
        wire = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.reply(wire.plan())

            def do_PUT(self) -> None:
                self.reply(wire.put(self.path.removeprefix(KEYS_PATH), self.body()))

            def do_POST(self) -> None:
                self.reply(wire.run(dict(self.headers), self.body()))

            def body(self) -> bytes:
                wire.received.append(self.rfile.read(int(self.headers["Content-Length"])))
                return wire.received[-1]

            def reply(self, answer: tuple[int, dict[str, str], bytes] | None) -> None:
                if answer is None:
                    return self.connection.close()
                status, headers, content = answer
                self.send_response(status)
                for name, value in ({"Content-Length": str(len(content))} | headers).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)
                return None

            def log_message(self, *_: object) -> None:
                """Nothing is logged."""

        server = HTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            server.server_close()


@pytest.fixture(scope="module")
def service(shared):
    return Service.open(shared.plan, max_keys=2)


@pytest.fixture
def wire(service):
    return Wire(Service(service._server, service.program, max_keys=2))


@pytest.fixture
def decryptions(monkeypatch):
    """What is decrypted in a test."""
    seen, decrypt = [], fhe.Client.decrypt
    monkeypatch.setattr(fhe.Client, "decrypt", lambda self, value: seen.append(value) or decrypt(self, value))
    return seen


def test_answers_are_the_plans(wire, shared):
    plan, inputs = EncryptedPlan.load(shared.plan), examples(3)
    with wire.listening() as url:
        answers = ask(shared.client, inputs, url, SHORT)
    logits = np.stack([answer.logits for answer in answers])
    assert np.array_equal(logits, plan.finish(plan.evaluate(inputs)))
    assert [answer.label for answer in answers] == [LABELS[i] for i in logits.argmax(1)]


def test_what_leaves_the_client(wire, shared):
    """Ciphertexts, and evaluation keys once: nothing else, and never the same ciphertext again."""
    with wire.listening() as url:
        for _ in range(2):
            ask(shared.client, np.repeat(examples(1), 2, 0), url, SHORT)
    evaluation = (shared.client / "keys" / "evaluation.key").read_bytes()
    assert wire.received.count(evaluation) == 1
    requests = [body for body in wire.received if body != evaluation]
    assert {len(request) for request in requests} == {wire.program.request.size}
    assert len(set(requests)) == 4


def flip(response: bytes, place: int) -> bytes:
    damaged = bytearray(response)
    damaged[place] ^= 1
    return bytes(damaged)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r, h: r[:-8], "the answer of .* bytes: exactly"),
        (lambda r, h: r + bytes(8), "the answer of .* bytes: exactly"),
        (lambda r, h: bytes(1 << 20), "the answer of .* bytes: exactly"),
        (lambda r, h: b"", "the answer of 0 bytes: exactly"),
        (lambda r, h: flip(r, 0), "the answer: damaged, or made for another program"),
        (lambda r, h: flip(r, len(r) - 1), "the answer: damaged, or made for another program"),
        (lambda r, h: flip(r, 800), f"not the one to this request: its {RESPONSE}"),
        (lambda r, h: h.update({PLAN: "0" * 64}) or r, f"not the one to this request: its {PLAN}"),
        (lambda r, h: h.update({KEYS: "0" * 64}) or r, f"not the one to this request: its {KEYS}"),
        (lambda r, h: h.update({REQUEST: sha256(b"")}) or r, f"not the one to this request: its {REQUEST}"),
        (lambda r, h: h.clear() or r, "not the one to this request"),
        (lambda r, h: None, "ended the connection before it had answered: was it stopped"),
    ],
)
def test_a_wrong_answer_is_not_decrypted(wire, shared, decryptions, change, message):
    wire.change = change
    with wire.listening() as url, pytest.raises(ValueError, match=message):
        ask(shared.client, examples(), url, 3.0)
    assert not decryptions


def test_an_answer_under_other_keys(wire, shared):
    """A server that lies about the digests: numbers out of the plan's range are not taken for an answer."""
    stranger = fhe.Client(ClientFolder.load(shared.client).specs)
    stranger.keygen()
    program = wire.service

    def other_keys(response: bytes, headers: dict[str, str]) -> bytes:
        value = fhe.Value.deserialize(stranger.encrypt(examples()[0]).serialize())
        response = program.run(stranger.evaluation_keys, value)
        headers[RESPONSE] = sha256(response)
        return response

    wire.change, refused = other_keys, 0
    with wire.listening() as url:
        for _ in range(5):  # four numbers in range by chance: about once in 100
            try:
                ask(shared.client, examples(), url, SHORT)
            except ValueError as error:
                refused += "numbers that the plan cannot compute" in str(error)
    assert refused >= 3


@pytest.mark.parametrize("status", [301, 302, 307, 400, 500, 503])
def test_a_status_that_is_no_answer(wire, shared, decryptions, status):
    """A redirection is not followed."""
    wire.status = status
    wire.change = lambda response, headers: (
        headers.update({"Location": "http://127.0.0.1:9/"}) or b'{"error": "\\u001b[1mno"}'
    )
    with wire.listening() as url, pytest.raises(ValueError, match=rf"refuses \({status}\): \[1mno$"):
        ask(shared.client, examples(), url, SHORT)
    assert not decryptions


def test_keys_that_are_dropped_at_once(wire, shared, monkeypatch):
    monkeypatch.setattr(wire.service, "add_keys", lambda digest, content: None)
    with wire.listening() as url, pytest.raises(ValueError, match=r"refuses \(404\)"):
        ask(shared.client, examples(), url, SHORT)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (
            {"plan": "0" * 64},
            "computes plan 0{12}…, this client is one of plan .*: they belong to different models",
        ),
        ({"specs": "0" * 64}, "has other parameters than this client's"),
        ({"plan": None}, "computes plan None"),
    ],
)
def test_a_server_of_another_program(wire, shared, said, message):
    wire.said |= said
    with wire.listening() as url, pytest.raises(ValueError, match=message):
        ask(shared.client, examples(), url, SHORT)
    assert wire.received == []


@pytest.mark.parametrize("said", [b"<html>", b"[]", b"{}", b'"plan"'])
def test_another_kind_of_server(wire, shared, said, monkeypatch):
    monkeypatch.setattr(wire, "plan", lambda: (200, {}, said))
    with wire.listening() as url, pytest.raises(ValueError, match="is no server of encrypted inference"):
        ask(shared.client, examples(), url, SHORT)


def test_no_server(shared):
    with pytest.raises(ValueError, match=r"cannot be reached .*: is the server running"):
        ask(shared.client, examples(), f"http://127.0.0.1:{free_port()}", SHORT)


def test_a_server_that_does_not_answer(wire, shared, monkeypatch):
    released = threading.Event()
    monkeypatch.setattr(wire, "plan", lambda: released.wait(30) and (200, {}, b""))
    with wire.listening() as url:
        try:
            with pytest.raises(ValueError, match=r"did not answer within 0.5 s: wait longer with --timeout"):
                ask(shared.client, examples(), url, 0.5)
        finally:
            released.set()


@pytest.mark.parametrize("url", ["127.0.0.1:8731", "file:///etc/passwd", "http://", "http://127.0.0.1:8731/?x=1"])
def test_no_url(shared, url):
    with pytest.raises(ValueError, match=r"--url must be such as http://127.0.0.1:8731"):
        ask(shared.client, examples(), url, SHORT)


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_no_time(shared, seconds):
    with pytest.raises(ValueError, match="--timeout must be more than 0 seconds and at most 1,000,000"):
        ask(shared.client, examples(), "http://127.0.0.1:8731", seconds)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (examples() + 3, r"number 3 at \[0, . of example 0 is outside \[0, 2\]|is outside \[0, 2\]"),
        (examples() - 3, r"is outside \[0, 2\]"),
        (examples()[0], r"each example must have shape \(2, 2\)"),
        (examples().astype(float), "integers are needed, got float64"),
        (["a text"], "integers are needed"),
        (examples(0), "no example"),
    ],
)
def test_inputs_that_the_plan_cannot_take(wire, shared, raw, message):
    with wire.listening() as url, pytest.raises(ValueError, match=message):
        ask(shared.client, raw, url, SHORT)
    assert wire.received == []


def test_files_of_inputs(tmp_path):
    np.save(tmp_path / "x.npy", examples(2))
    (tmp_path / "x.json").write_text(json.dumps(examples(2).tolist()))
    (tmp_path / "texts.json").write_text('["one", "two"]')
    assert np.array_equal(read_input(tmp_path / "x.npy"), examples(2))
    assert np.array_equal(read_input(tmp_path / "x.json"), examples(2))
    assert read_input(tmp_path / "texts.json") == ["one", "two"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", b"1,2", r"inputs are .npy or .json files"),
        ("x.npy", b"\\x93NUMPY", "x.npy cannot be read"),
        ("x.npy", b"", "x.npy cannot be read"),
        ("x.json", b"[1, 2", "x.json cannot be read"),
        ("x.json", b"[[1, 2], [3]]", "x.json cannot be read"),
        ("x.json", None, "x.json is absent"),
    ],
)
def test_files_that_hold_no_inputs(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_input(tmp_path / name)
