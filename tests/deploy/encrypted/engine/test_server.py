"""The HTTP server: limits, order, and answers while it computes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace
from types import SimpleNamespace

import aiohttp
import pytest
from aiohttp.test_utils import TestClient, TestServer

from inhibitor_transformers.deploy.encrypted.engine.compiled import load_program
from inhibitor_transformers.deploy.encrypted.engine.envelope import Envelope
from inhibitor_transformers.deploy.encrypted.engine.protocol import KEYS, KEYS_PATH, PLAN, PLAN_PATH, REQUEST, RUN_PATH
from inhibitor_transformers.deploy.encrypted.engine.server import Server
from inhibitor_transformers.deploy.encrypted.engine.service import UnknownKeysError
from inhibitor_transformers.deploy.encrypted.files import sha256

BODY = bytes(16)


class Blocking:
    """A service whose computations take until they are released, and which notes them."""

    def __init__(self, program) -> None:
        self.program = replace(program, request=Envelope(16, (), ""), keys=Envelope(64, (), ""))
        self.released, self.begun, self.done = threading.Event(), threading.Semaphore(0), 0
        self.kept: list[str] = []

    def add_keys(self, digest: str, content: bytes) -> None:
        self.kept.append(digest)

    def keys(self, digest: str) -> str:
        if digest not in self.kept:
            raise UnknownKeysError("no such keys")
        return digest

    def check_request(self, plan: str, digest: str, request: bytes) -> bytes:
        return request

    def run(self, keys: str, value: bytes) -> bytes:
        self.begun.release()
        assert self.released.wait(60)
        self.done += 1
        return value


@pytest.fixture
def service(shared):
    return Blocking(load_program(shared.plan))


def talk(service: Blocking, conversation: Callable[[TestClient], Awaitable[None]], max_waiting: int = 1) -> None:
    async def run() -> None:
        async with TestClient(TestServer(Server(service, max_waiting).app(), handler_cancellation=True)) as client:
            try:
                await asyncio.wait_for(conversation(client), 60)
            finally:
                service.released.set()

    asyncio.run(run())


def ask(client: TestClient, body: bytes = BODY, keys: str = "known", **options) -> Awaitable[aiohttp.ClientResponse]:
    return client.post(RUN_PATH, data=body, headers={PLAN: "p", KEYS: keys, REQUEST: sha256(body)}, **options)


def test_one_computes_some_wait_and_others_are_refused(service):
    service.kept.append("known")

    async def conversation(client: TestClient) -> None:
        first = asyncio.create_task(ask(client))
        assert await asyncio.to_thread(service.begun.acquire, timeout=30)
        others = {asyncio.create_task(ask(client)) for _ in range(2)}
        (refused,), (waiting,) = await asyncio.wait(others, return_when=asyncio.FIRST_COMPLETED)
        answer = await refused
        assert answer.status == 503
        assert (await answer.json())["error"] == "too many requests wait already: try again later"
        assert (await client.get(PLAN_PATH)).status == 200  # while one is computed
        assert not service.begun.acquire(blocking=False)
        service.released.set()
        assert [(await task).status for task in (first, waiting)] == [200, 200]
        assert (await ask(client)).status == 200

    talk(service, conversation)
    assert service.done == 3


def test_who_goes_leaves_the_queue(service):
    service.kept.append("known")

    async def conversation(client: TestClient) -> None:
        first = asyncio.create_task(ask(client))
        assert await asyncio.to_thread(service.begun.acquire, timeout=30)
        with pytest.raises(asyncio.TimeoutError):
            await ask(client, timeout=aiohttp.ClientTimeout(total=0.5))
        waiting = asyncio.create_task(ask(client))
        await asyncio.sleep(0.5)
        assert not waiting.done()  # there is room for one
        service.released.set()
        assert [(await task).status for task in (first, waiting)] == [200, 200]

    talk(service, conversation)
    assert service.done == 2


def test_an_answer_names_what_it_is_for(service):
    service.kept.append("known")
    service.released.set()

    async def conversation(client: TestClient) -> None:
        answer = await ask(client)
        named = {name: value for name, value in answer.headers.items() if name.startswith("Inhibit-")}
        digest = sha256(BODY)
        assert named == {PLAN: "p", KEYS: "known", REQUEST: digest, "Inhibit-Response": digest}
        said = await (await client.get(PLAN_PATH)).json()
        assert said == {"plan": service.program.plan, "specs": service.program.specs}

    talk(service, conversation)


def test_keys_come_before_requests(service):
    service.released.set()

    async def conversation(client: TestClient) -> None:
        answer = await ask(client)
        assert (answer.status, await answer.json()) == (404, {"error": "no such keys"})
        assert (await client.put(f"{KEYS_PATH}known", data=bytes(64))).status == 204
        assert (await ask(client)).status == 200

    talk(service, conversation)


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({"data": bytes(15)}, "15"),
        ({"data": bytes(17)}, "17"),
        ({"data": bytes(1 << 20)}, "1048576"),
        ({"data": b""}, "0|None"),
        ({"data": BODY, "chunked": True}, "None"),
        ({"data": BODY, "headers": {"Content-Encoding": "gzip"}}, "16"),
    ],
)
def test_a_body_of_another_size_is_not_read(service, options, size, monkeypatch):
    """Nor one whose size is not said, or only before it is unpacked."""
    read = []
    monkeypatch.setattr(aiohttp.web.Request, "read", lambda request: read.append(request))

    async def conversation(client: TestClient) -> None:
        answer = await client.post(RUN_PATH, **options)
        assert answer.status == 400
        error = (await answer.json())["error"]
        assert error.startswith("a body of exactly 16 bytes is needed, got ")
        assert error.rpartition(" ")[2] in size.split("|")

    talk(service, conversation)
    assert not read


def test_one_upload_at_a_time(service):
    async def in_halves(begun: asyncio.Event, more: asyncio.Event):
        yield bytes(32)
        begun.set()
        await more.wait()
        yield bytes(32)

    async def conversation(client: TestClient) -> None:
        begun, more, length = asyncio.Event(), asyncio.Event(), {"Content-Length": "64"}
        slow = asyncio.create_task(client.put(f"{KEYS_PATH}slow", data=in_halves(begun, more), headers=length))
        await begun.wait()
        refused = await client.put(f"{KEYS_PATH}other", data=bytes(64))
        assert refused.status == 503
        assert (await refused.json())["error"] == "another client uploads its keys: try again in some seconds"
        more.set()
        assert (await slow).status == 204
        assert (await client.put(f"{KEYS_PATH}other", data=bytes(64))).status == 204

    talk(service, conversation)
    assert service.kept == ["slow", "other"]


def test_a_body_that_does_not_come(service, monkeypatch):
    monkeypatch.setattr("inhibitor_transformers.deploy.encrypted.engine.server._SECONDS_TO_SEND", 0.2)

    async def never():
        yield bytes(8)
        await asyncio.sleep(30)

    async def conversation(client: TestClient) -> None:
        answer = await client.post(RUN_PATH, data=never(), headers={"Content-Length": "16"})
        assert (await answer.json())["error"] == "the body did not arrive within 0.2 seconds"

    talk(service, conversation)


def test_where_and_how_it_is_served(service, monkeypatch):
    """On loopback, without a log of requests."""
    from inhibitor_transformers.deploy.encrypted.engine import server

    used = SimpleNamespace()

    def run_app(app, **options) -> None:
        app.close()
        used.options = options

    monkeypatch.setattr(server.web, "run_app", run_app)
    server.serve(service, 8731, 1, print)
    assert used.options["host"] == "127.0.0.1"
    assert used.options["access_log"] is None
