"""A client's connection to a server: what is sent and received, and the checks before anything is believed."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from ....common.progress import progress
from ..files import sha256
from .compiled import Program
from .protocol import BYTES, KEYS, KEYS_PATH, PLAN, PLAN_PATH, PORT, REQUEST, RESPONSE, RUN_PATH

_MOST_TEXT = 1 << 16  # bytes of an answer that is no ciphertext
_LONGEST = 1_000_000  # seconds
_FINE, _NOT_FOUND = (200, 204), 404


class Connection:
    """To the server at `url`, http or https. timeout: seconds to wait for each answer.

    Every method raises ValueError, with the reason, where the server cannot be reached or answers anything but what a
    server of this program answers.
    """

    def __init__(self, url: str, program: Program, timeout: float) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError(f"--url must be such as http://127.0.0.1:{PORT}, got {url!r}")
        if not 0 < timeout <= _LONGEST:
            raise ValueError(f"--timeout must be more than 0 seconds and at most {_LONGEST:,}, got {timeout:g}")
        self._url, self._program, self._timeout = parts, program, timeout

    def check_plan(self) -> None:
        """Raise ValueError unless the server computes this client's plan, with its parameters."""
        body = self._ask("GET", PLAN_PATH).body
        try:
            said = json.loads(body)
            plan, specs = str(said["plan"]), str(said["specs"])
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"{self._url.geturl()} is no server of encrypted inference") from None
        if plan != self._program.plan:
            raise ValueError(
                f"the server computes plan {plan[:12]}…, this client is one of plan {self._program.plan[:12]}…: "
                "they belong to different models"
            )
        if specs != self._program.specs:
            raise ValueError("the server's program has other parameters than this client's: it was compiled anew")

    def run(self, request: bytes, keys: bytes) -> bytes:
        """The answer to a ciphertext; evaluation keys are uploaded if the server has none. Everything is checked."""
        digests = {PLAN: self._program.plan, KEYS: sha256(keys), REQUEST: sha256(request)}
        answer = self._ask("POST", RUN_PATH, request, digests, also=_NOT_FOUND)
        if answer.status == _NOT_FOUND:  # the server was started anew, or others' keys took the place of these
            with progress("uploading evaluation keys"):
                self._ask("PUT", KEYS_PATH + digests[KEYS], keys)
            answer = self._ask("POST", RUN_PATH, request, digests)
        self._program.response.check(answer.body, "the answer")
        for name, digest in (digests | {RESPONSE: sha256(answer.body)}).items():
            if answer.headers.get(name) != digest:
                raise ValueError(f"the answer is not the one to this request: its {name} is another")
        return answer.body

    def _ask(
        self, method: str, path: str, body: bytes | None = None, digests: Mapping[str, str] | None = None, also: int = 0
    ) -> _Answer:
        """What the server answers, with status 200, 204 or `also`."""
        where = self._url.geturl()
        try:
            answer = self._exchange(method, path, body, {"Content-Type": BYTES, **(digests or {})})
        except TimeoutError:
            raise ValueError(f"{where} did not answer within {self._timeout:g} s: wait longer with --timeout") from None
        except (ConnectionResetError, BrokenPipeError, http.client.IncompleteRead):  # also: RemoteDisconnected
            raise ValueError(f"{where} ended the connection before it had answered: was it stopped?") from None
        except OSError as error:
            raise ValueError(f"{where} cannot be reached ({error}): is the server running?") from None
        except http.client.HTTPException as error:
            raise ValueError(f"{where} is no server of encrypted inference: {error!r}") from None
        if answer.status not in (*_FINE, also):
            raise ValueError(f"{where} refuses ({answer.status}): {_reason(answer.body)}")
        return answer

    def _exchange(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> _Answer:
        """One request over a connection of its own, without proxies; redirections are not followed."""
        kind = http.client.HTTPSConnection if self._url.scheme == "https" else http.client.HTTPConnection
        connection = kind(self._url.hostname or "", self._url.port, timeout=self._timeout)
        try:
            connection.request(method, self._url.path.rstrip("/") + path, body, dict(headers))
            answer = connection.getresponse()
            # One byte more than any right answer: what is longer will not fit its envelope.
            content = answer.read(max(self._program.response.size, _MOST_TEXT) + 1)
            return _Answer(answer.status, answer.headers, content)
        finally:
            connection.close()


class _Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes


def _reason(content: bytes) -> str:
    """What a server says, without control characters."""
    try:
        said = json.loads(content)["error"]
    except (ValueError, KeyError, TypeError):
        said = "it does not say why"
    return "".join(c for c in str(said)[:300] if c.isprintable())
