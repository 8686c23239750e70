"""The one place that does HTTP with RunPod: one request, under a total deadline, to an answer or a typed error.

    Unavailable(sent=False)     name lookup, connection refused, connect timeout, TLS handshake, a proxy that refuses
    Unavailable(sent=True)      from the first byte of the request on: reset, cut, read timeout, total timeout
    every other error           depends on the answer: ``_http_errors.py``

No request is repeated and no redirect is followed: a second POST /run would be paid for again. TLS is always verified
(`REQUESTS_CA_BUNDLE` can name another bundle), proxies of the environment are used, a .netrc is not.

Each process makes its own session on first use: two processes on one connection would read each other's answers. Threads
share the session.

The API key never leaves this module. Errors are raised outside of `except`, so that none carries an error of `requests`,
which holds the request's headers; and the key is removed from what RunPod says in an error.

Not here: sockets and their deadlines (``_connections.py``), what the operations are (``_serverless.py``).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Self

import requests
from requests.auth import AuthBase

from celery_runpod.api._connections import FAILURES, Call, TimedSession, calling, causes
from celery_runpod.api._durations import MAX_S, bounded
from celery_runpod.api._http_errors import RawAnswer, Where, read, shorten
from celery_runpod.api._large_answers import LARGE_BYTES, take_turn
from celery_runpod.api._ratelimits import HEADERS
from celery_runpod.api._signatures import hide_signatures
from celery_runpod.errors import ApiError, InvalidOption, Unavailable

MAX_ANSWER_BYTES = 64_000_000
"""RunPod loses results over about 20 MB (worker-comfyui#129): more than this is not an answer of its API."""

MAX_LINE_BYTES = 1_000_000
"""The longest line of a log; a longer one ends the stream."""

MIN_KEY_CHARS = 8


class Bearer(AuthBase):
    """Puts the API key on a request. `requests` reads no .netrc when it is given an `auth`."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._key}"
        return request

    def __repr__(self) -> str:
        return "Bearer(***)"

    def hidden(self, text: bytes) -> bytes:
        # A short key of a simulator may be part of any text; RunPod's keys are longer than 40 characters.
        hidden = text if len(self._key) < MIN_KEY_CHARS else text.replace(self._key.encode(), b"***")
        # Latin-1 gives every byte back as it was.
        return hide_signatures(hidden.decode("latin-1")).encode("latin-1")


class Transport:
    """HTTP with RunPod. Times are seconds; `clock` is monotonic."""

    def __init__(
        self,
        key: Callable[[], str],
        base_url: str,
        *,
        connect_timeout_s: float,
        read_timeout_s: float,
        total_timeout_s: float,
        pool_size: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.base_url = base_url
        self.total_timeout_s = total_timeout_s
        self._key = key
        self._connect_timeout_s = connect_timeout_s
        self._read_timeout_s = read_timeout_s
        self._pool_size = pool_size
        self._clock = clock
        # One for each process id, without a lock: a fork may happen while another thread holds the lock.
        self._sessions: dict[int, requests.Session] = {}

    def __repr__(self) -> str:
        return f"Transport({self.base_url!r})"

    def request(
        self,
        method: str,
        path: str,
        where: Where,
        *,
        body: bytes | None = None,
        timeout_s: float | None = None,
        held_s: float = 0.0,
        has_body: bool = True,
    ) -> Any:
        """Send one request; returns the parsed JSON.

        Args:
            timeout_s: for the whole call, instead of the client's own.
            held_s: how long RunPod may hold the answer back on purpose; added to the client's timeouts.
            has_body: False for an operation whose success has no (documented) body; then None is returned.

        Raises:
            ApiError: one of its kinds.
            ConfigurationError: there is no API key to use.
            InvalidOption: `timeout_s` is not above 0.
            NoTurn: only within `one_answer`.
        """
        total_s = self.total_timeout_s + held_s if timeout_s is None else timeout_s
        if not total_s > 0:
            raise InvalidOption("timeout", timeout_s, "seconds above 0")
        call = Call(self._clock() + total_s, self._connect_timeout_s, self._read_timeout_s + held_s, self._clock)
        auth = Bearer(self._key())
        # What can be asked for again waits its turn: GET /stream gives each chunk once.
        waits = call if where.operation == "status" else None
        try:
            with calling(call), self._send(method, f"{self.base_url}/{path}", body, auth, call) as response:
                answer = _whole(response, auth, waits)
        except FAILURES as error:
            failed = self._failed(error, call, where, auth)
        else:
            return self._read(answer, where, auth, has_body)
        raise failed

    def lines(self, path: str, where: Where, *, quiet_s: float, timeout_s: float) -> Iterator[str]:
        """GET a stream (server-sent events): its lines, as they arrive.

        They end with the answer, after `quiet_s` without a byte, or after `timeout_s` in all.

        Raises:
            ApiError: as for `request`; also Unavailable for an answer that breaks off.
        """
        call = Call(self._clock() + timeout_s, self._connect_timeout_s, self._read_timeout_s, self._clock)
        auth, rest, failed = Bearer(self._key()), b"", None
        try:
            with calling(call):
                response = self._send("GET", f"{self.base_url}/{path}", None, auth, call, "text/event-stream")
                refusal = None if response.status_code == 200 else _whole(response, auth)
        except FAILURES as error:
            failed = self._failed(error, call, where, auth)
        if failed is not None:
            raise failed
        if refusal is not None:
            self._read(refusal, where, auth)
            return
        call.read_timeout_s = quiet_s
        # Without chunked encoding, read byte by byte: a larger read waits until it is full, and holds lines back.
        pieces = response.iter_content(65_536 if response.raw.chunked else 1)
        try:
            while True:
                try:
                    with calling(call):
                        piece = next(pieces, b"")
                except FAILURES as error:
                    if any(isinstance(one, TimeoutError) for one in causes(error)):
                        return
                    failed = self._failed(error, call, where, auth)
                if failed is not None:
                    raise failed
                *complete, rest = (rest + piece).split(b"\n")
                yield from (line.decode("utf-8", "replace").rstrip("\r") for line in complete)
                if not piece or len(rest) > MAX_LINE_BYTES:
                    return
        finally:
            with calling(call):
                response.close()

    def close(self) -> None:
        """Close this process's connections; the next call makes new ones."""
        session = self._sessions.pop(os.getpid(), None)
        if session is not None:
            session.close()

    def _send(
        self, method: str, url: str, body: bytes | None, auth: Bearer, call: Call, accept: str = "application/json"
    ) -> requests.Response:
        # Not the session's own `request`: at each call it merges what never changes, and keeps cookies.
        session, request = self._session(), requests.PreparedRequest()
        request.prepare(method, url, headers={**session.headers, "Accept": accept}, data=body, auth=auth)
        return session.get_adapter(url).send(
            request,
            stream=True,
            timeout=(call.connect_timeout_s, call.read_timeout_s),
            verify=session.verify or True,
            proxies=session.proxies,
        )

    def _read(self, answer: RawAnswer, where: Where, auth: Bearer, has_body: bool = True) -> Any:
        try:
            return read(answer, where, has_body=has_body)
        except ApiError as error:
            # Redact again after decoding: JSON escapes can hide the key from the byte-level pass.
            failed = replace(error, message=auth.hidden(error.message.encode("utf-8", "replace")).decode())
        raise failed

    def _failed(self, error: Exception, call: Call, where: Where, auth: Bearer) -> ApiError:
        place = "no answer" if call.sent else f"no connection to {self.base_url}"
        return where.error(Unavailable, f"{place}: {_why(error, auth)}", sent=call.sent)

    def _session(self) -> requests.Session:
        pid = os.getpid()
        return self._sessions.get(pid) or self._sessions.setdefault(pid, self._new_session())

    def _new_session(self) -> requests.Session:
        session = TimedSession(pool_connections=4, pool_maxsize=self._pool_size)
        session.headers.update({"Content-Type": "application/json", "User-Agent": _user_agent()})
        # Read once, not at each request: proxies and REQUESTS_CA_BUNDLE, for the one host that this session talks to.
        found = session.merge_environment_settings(self.base_url, {}, None, True, None)
        session.proxies, session.verify = found["proxies"], found["verify"]
        return session


def _whole(response: requests.Response, auth: Bearer, waits: Call | None = None) -> RawAnswer:
    """The whole answer. The call that `waits` is given a turn, if the answer is large, and half of its time is left to
    read it."""
    content, cut = bytearray(), None
    try:
        for piece in response.iter_content(65_536):
            if waits is not None and len(content) <= LARGE_BYTES < len(content) + len(piece):
                take_turn(waits.left_s() / 2)
            content += piece
            if len(content) > MAX_ANSWER_BYTES:
                break
    except FAILURES as error:
        # The status is known already, and may say more than the rest would.
        cut = _why(error, auth)
    status, oversized = response.status_code, len(content) > MAX_ANSWER_BYTES
    headers = {name: response.headers.get(name, "") for name in ("Content-Type", *HEADERS)}
    # Redact error bodies only: a success body is never quoted in an error.
    text = bytes(content) if status < 300 else auth.hidden(bytes(content))
    return RawAnswer(status, headers, text, cut, oversized)


def _user_agent() -> str:
    try:
        return f"celery-runpod/{version('celery-runpod')}"
    except PackageNotFoundError:
        return "celery-runpod"


def _why(error: BaseException, auth: Bearer) -> str:
    """The text of the innermost error: `[Errno 111] Connection refused`."""
    *_, root = causes(error)
    text = str(root).strip() or type(root).__name__
    return shorten(auth.hidden(text.encode("utf-8", "replace")).decode())


class Client:
    """What `RunPodClient` and `ManagementClient` share: one `Transport`, which is closed at the end of a `with` block."""

    def __init__(
        self,
        key: Callable[[], str],
        base_url: str,
        *,
        connect_timeout: float | timedelta,
        read_timeout: float | timedelta,
        total_timeout: float | timedelta,
        pool_size: int,
    ) -> None:
        self._http = Transport(
            key,
            base_url,
            connect_timeout_s=bounded("connect_timeout", connect_timeout, 0.001, MAX_S),
            read_timeout_s=bounded("read_timeout", read_timeout, 0.001, MAX_S),
            total_timeout_s=bounded("total_timeout", total_timeout, 0.001, MAX_S),
            pool_size=pool_size,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections of this process. The client can be used again; it then makes new ones."""
        self._http.close()
