"""The one place that does HTTP with RunPod: deadlines, the connection pool, and what each failure means.

Every call has a connect, a read and a total deadline: the read deadline of `requests` is for each read, so an answer
that trickles would never end. Nothing is retried and no redirect followed: a repeated POST is a second payment.

Next: ``serverless.py``, the operations.
"""

from __future__ import annotations

import email.utils
import json
import os
import re
import threading
import time
from collections.abc import Callable
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter

from celery_runpod.errors import (
    ApiError,
    BadAnswer,
    EndpointNotFound,
    JobNotFound,
    RateLimited,
    RequestRejected,
    Unauthorized,
    Unavailable,
)

MAX_ANSWER_BYTES = 64_000_000
IDLE_S = 4.0
"""A connection idle for longer may be closed at the other end: a paid POST on it would fail without telling whether
it was taken. So such a POST never uses an older one."""

_NOT_SENT = (
    urllib3.exceptions.NewConnectionError,
    urllib3.exceptions.ConnectTimeoutError,
    urllib3.exceptions.NameResolutionError,
    urllib3.exceptions.SSLError,
)


class _Bearer(requests.auth.AuthBase):
    """Our key, and not one that a .netrc file names."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._key}"
        return request


class Transport:
    """HTTP with RunPod for one process and its threads; a fork begins with no connections."""

    def __init__(
        self,
        key: Callable[[], str],
        base_url: str,
        *,
        connect_timeout_s: float,
        read_timeout_s: float,
        total_timeout_s: float,
        pool_size: int,
    ) -> None:
        self._key = key
        self.base_url = base_url.rstrip("/")
        self._connect_timeout_s = connect_timeout_s
        self._read_timeout_s = read_timeout_s
        self._total_timeout_s = total_timeout_s
        self._pool_size = pool_size
        self._lock = threading.Lock()
        self._sessions: dict[str, requests.Session] = {}
        self._used: dict[str, float] = {}
        self._pid = os.getpid()

    def __repr__(self) -> str:
        return f"Transport({self.base_url!r})"

    def request(
        self,
        method: str,
        path: str,
        *,
        operation: str,
        endpoint: str,
        job_id: str | None = None,
        body: bytes | None = None,
        timeout_s: float | None = None,
        paid: bool = False,
    ) -> Any:
        """The parsed JSON of a successful answer (or of a 400 that holds a FAILED job).

        Args:
            timeout_s: the total deadline of this call.
            paid: a POST that starts a job; it never uses a connection that has been idle.

        Raises:
            ApiError: one of its kinds; `Unavailable.sent` tells whether RunPod may have acted.
        """
        about: dict[str, Any] = {"operation": operation, "endpoint": endpoint, "job_id": job_id}
        give_up = time.monotonic() + (self._total_timeout_s if timeout_s is None else timeout_s)
        auth = _Bearer(self._key())
        failed: ApiError
        try:
            status, headers, content = self._exchange(method, path, body, auth, give_up, paid)
        except _TooSlow as slow:
            failed = Unavailable(f"no complete answer in time ({slow})", **about, status=slow.status)
        except requests.exceptions.RequestException as error:
            failed = _no_answer(error, about)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            failed = Unavailable(f"the connection failed: {type(error).__name__}", **about)
        else:
            return read_answer(status, headers, content, about)
        # Outside the `except`: the library's error holds the request, and that holds the API key.
        raise failed

    def close(self) -> None:
        with self._lock:
            for session in self._sessions.values():
                session.close()
            self._sessions.clear()

    def _exchange(
        self, method: str, path: str, body: bytes | None, auth: _Bearer, give_up: float, paid: bool
    ) -> tuple[int, Any, bytes]:
        left = give_up - time.monotonic()
        with self._session(paid).request(
            method,
            f"{self.base_url}/{path}",
            data=body,
            headers={"Content-Type": "application/json", "Accept": "application/json"},
            auth=auth,
            timeout=(min(self._connect_timeout_s, left), max(0.001, min(self._read_timeout_s_for(left), left))),
            allow_redirects=False,
            stream=True,
        ) as answer:
            content = bytearray()
            while True:
                _limit_next_read(answer, give_up - time.monotonic())
                # read1 returns what has arrived; `read` would wait until a whole chunk has trickled in.
                piece = answer.raw.read1(65_536, decode_content=True)
                content += piece
                if time.monotonic() >= give_up:
                    raise _TooSlow("trickling", answer.status_code)
                if len(content) > MAX_ANSWER_BYTES:
                    raise _TooSlow(f"over {MAX_ANSWER_BYTES // 1_000_000} MB", answer.status_code)
                if not piece:
                    break
            return answer.status_code, answer.headers, bytes(content)

    def _read_timeout_s_for(self, left: float) -> float:
        return max(self._read_timeout_s, left)

    def _session(self, paid: bool) -> requests.Session:
        with self._lock:
            if self._pid != os.getpid():
                self._sessions, self._used, self._pid = {}, {}, os.getpid()
            kind = "paid" if paid else "free"
            now = time.monotonic()
            if paid and now - self._used.get(kind, now) > IDLE_S and kind in self._sessions:
                self._sessions.pop(kind).close()
            self._used[kind] = now
            if kind not in self._sessions:
                session = requests.Session()
                adapter = HTTPAdapter(pool_connections=4, pool_maxsize=self._pool_size, max_retries=0)
                session.mount("https://", adapter)
                session.mount("http://", adapter)
                self._sessions[kind] = session
            return self._sessions[kind]


class _TooSlow(Exception):
    def __init__(self, why: str, status: int | None) -> None:
        super().__init__(why)
        self.status = status


def _limit_next_read(answer: requests.Response, left: float) -> None:
    """No read may wait for longer than the call as a whole."""
    connection = getattr(answer.raw, "connection", None) or getattr(answer.raw, "_connection", None)
    sock = getattr(connection, "sock", None)
    if sock is not None:
        sock.settimeout(max(0.001, left))


def _no_answer(error: requests.exceptions.RequestException, about: dict[str, Any]) -> ApiError:
    """What a failure without an answer means: was the request sent?"""
    cause: Any = error.args[0] if error.args else None
    reason = getattr(cause, "reason", cause)
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return Unavailable("connecting took too long", **about, sent=False)
    if isinstance(error, requests.exceptions.SSLError):
        return Unavailable("the TLS connection could not be made", **about, sent=False)
    if isinstance(error, requests.exceptions.ProxyError):
        return Unavailable("the proxy could not be reached", **about, sent=False)
    if isinstance(reason, _NOT_SENT) or isinstance(cause, _NOT_SENT):
        return Unavailable("cannot connect to the API", **about, sent=False)
    if isinstance(error, requests.exceptions.InvalidURL | requests.exceptions.InvalidSchema):
        return RequestRejected("the base URL is not one that can be called", **about)
    if isinstance(error, requests.exceptions.ReadTimeout):
        return Unavailable("no answer in time", **about)
    return Unavailable(f"the connection was cut ({type(reason).__name__})", **about)


def read_answer(status: int, headers: Any, content: bytes, about: dict[str, Any]) -> Any:
    """The JSON of an answer, or the error that it stands for."""
    data: Any = None
    try:
        data = json.loads(content)
        readable = True
    except ValueError:
        readable = False
    if 200 <= status < 300:
        if not readable:
            raise BadAnswer("the answer is not JSON", **about, status=status)
        return data
    if status == 400 and isinstance(data, dict) and data.get("id") and data.get("status") == "FAILED":
        # Public endpoints answer so.
        return data
    text = _message(data, content)
    if status == 429:
        raise RateLimited(text, **about, status=status, retry_after_s=_retry_after(headers.get("Retry-After")))
    if status in (401, 403):
        raise Unauthorized(text, **about, status=status)
    if status == 404:
        missing_job = about["job_id"] is not None and "endpoint" not in text.lower()
        raise (JobNotFound if missing_job else EndpointNotFound)(text, **about, status=status)
    if 400 <= status < 500:
        raise RequestRejected(text, **about, status=status)
    raise Unavailable(text, **about, status=status)


def _message(data: Any, content: bytes) -> str:
    """RunPod's own words, bounded."""
    if isinstance(data, dict):
        for name in ("error", "message", "detail", "title"):
            if data.get(name):
                return (data[name] if isinstance(data[name], str) else json.dumps(data[name]))[:500]
    text = content.decode("utf-8", "replace").strip()
    if text[:1] == "<":
        title = re.search(r"<title>(.*?)</title>", text, re.IGNORECASE | re.DOTALL)
        return f"an HTML page{': ' + ' '.join(title[1].split())[:200] if title else ''}"
    return text[:500] or "no text"


def _retry_after(value: str | None) -> float | None:
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            when = email.utils.parsedate_to_datetime(value).timestamp()
        except (TypeError, ValueError):
            return None
        seconds = when - time.time()  # noqa: TID251 - a date on the wire means the wall clock
    return min(max(0.0, seconds), 3600.0) if seconds == seconds else None
