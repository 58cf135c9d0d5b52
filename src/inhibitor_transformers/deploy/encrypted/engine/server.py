"""The HTTP server of encrypted inference, on loopback only. Inputs are neither logged nor stored."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor

from aiohttp import web

from ..files import sha256
from .protocol import BYTES, HOST, KEYS, KEYS_PATH, PLAN, PLAN_PATH, REQUEST, RESPONSE, RUN_PATH
from .service import Service, UnknownKeysError

_SECONDS_TO_SEND = 60  # that a client has for a request's body


class Server:
    """Handles requests: one computation at a time, `max_waiting` more wait for their turn, others are refused."""

    def __init__(self, service: Service, max_waiting: int) -> None:
        self._service, self._max_waiting = service, max_waiting
        # Concrete computes without holding Python's lock, so one thread leaves the others free to answer.
        self._thread = ThreadPoolExecutor(1)
        self._computations: list[Future[bytes]] = []
        self._uploading = asyncio.Lock()
        self._stopping = False

    def app(self) -> web.Application:
        """The aiohttp application."""
        app = web.Application(middlewares=[_errors_as_json], client_max_size=self._service.program.keys.size + 1)
        app.router.add_get(PLAN_PATH, self._plan)
        app.router.add_put(KEYS_PATH + "{digest}", self._add_keys)
        app.router.add_post(RUN_PATH, self._run)
        app.on_shutdown.append(self._stop)
        return app

    async def _plan(self, request: web.Request) -> web.Response:
        program = self._service.program
        return web.json_response({"plan": program.plan, "specs": program.specs})

    async def _add_keys(self, request: web.Request) -> web.Response:
        if self._uploading.locked():  # keys are large: those of one client at a time are read
            raise _BusyError("another client uploads its keys: try again in some seconds")
        async with self._uploading:
            content = await _body(request, self._service.program.keys.size)
            await asyncio.to_thread(self._service.add_keys, request.match_info["digest"], content)
        return web.Response(status=204)

    async def _run(self, request: web.Request) -> web.Response:
        service = self._service
        plan, keys, digest = (request.headers.get(name, "") for name in (PLAN, KEYS, REQUEST))
        value = service.check_request(plan, digest, await _body(request, service.program.request.size))
        computation = self._submit(service.run, service.keys(keys), value)
        response = await asyncio.wrap_future(computation)
        said = {PLAN: plan, KEYS: keys, REQUEST: digest, RESPONSE: sha256(response)}
        return web.Response(body=response, headers=said, content_type=BYTES)

    def _submit(self, function: Callable[..., bytes], *arguments: object) -> Future[bytes]:
        """Raises _BusyError if too many wait already, or the server stops."""
        if self._stopping:
            raise _BusyError("the server stops")
        self._computations = [computation for computation in self._computations if not computation.done()]
        if len(self._computations) > self._max_waiting:
            raise _BusyError("too many requests wait already: try again later")
        self._computations.append(self._thread.submit(function, *arguments))
        return self._computations[-1]

    async def _stop(self, app: web.Application) -> None:
        """What is being computed is finished, what waits is not begun."""
        self._stopping = True
        self._thread.shutdown(wait=False, cancel_futures=True)


def serve(service: Service, port: int, max_waiting: int, ready: Callable[[str], None]) -> None:
    """Serve until interrupted (Ctrl-C, SIGTERM). ready: called with the URL once requests are answered.

    Raises ValueError for a port that is taken or not allowed.
    """

    async def app() -> web.Application:
        return Server(service, max_waiting).app()

    def announce(*_: object) -> None:
        ready(f"http://{HOST}:{port}")

    try:
        # A handler is canceled when its client has gone: what nobody waits for leaves the queue.
        web.run_app(app(), host=HOST, port=port, print=announce, access_log=None, handler_cancellation=True)
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        raise ValueError(f"port {port} of {HOST} is taken or not allowed: name another with --port") from None


class _BusyError(Exception):
    """Too much is asked at once."""


@web.middleware
async def _errors_as_json(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except UnknownKeysError as error:
        status, message = 404, str(error)
    except ValueError as error:
        status, message = 400, str(error)
    except _BusyError as error:
        status, message = 503, str(error)
    return web.json_response({"error": message}, status=status)


async def _body(request: web.Request, size: int) -> bytes:
    """The body of a request. Raises ValueError unless it has this size, in bytes, and arrives in time."""
    if request.content_length != size or "Content-Encoding" in request.headers:
        raise ValueError(f"a body of exactly {size:,} bytes is needed, got {request.content_length}")
    try:
        async with asyncio.timeout(_SECONDS_TO_SEND):
            return await request.read()
    except TimeoutError:
        raise ValueError(f"the body did not arrive within {_SECONDS_TO_SEND} seconds") from None
