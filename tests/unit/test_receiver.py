"""The receiver of webhooks: what it refuses before a body, and which connections it gives up."""

from __future__ import annotations

import resource
import time
from types import SimpleNamespace
from typing import Any

import pytest
from waitress.adjustments import Adjustments

from celery_runpod._webhooks import webhook_server
from celery_runpod._webhooks.receive import MOST_BYTES
from celery_runpod._webhooks.signed_urls import sign_url
from celery_runpod._webhooks.webhook_server import MOST_CONNECTIONS, REQUEST_S, SILENT_S, Receiver

SECRET = "a-secret-of-the-tests-0123456789"
UNSIGNED = "/runpod/webhook?endpoint=e1&task=t1&attempt=1&expires=99999999999&signature=0"


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNPOD_WEBHOOK_SECRET", SECRET)


def signed() -> str:
    return sign_url("/runpod/webhook", SECRET, "runpod", "e1", "t1", 1, time.time())


def parsed(target: str, *headers: str, body: bytes = b"") -> Any:
    """The request after its headers, and perhaps a part of its body, have come."""
    parser = webhook_server._Parser(Adjustments(max_request_body_size=MOST_BYTES + 1))
    data = "\r\n".join([f"POST {target} HTTP/1.1", "Host: x", *headers, "", ""]).encode() + body
    while data and not parser.completed:
        data = data[parser.received(data) :]
    return parser


@pytest.mark.parametrize("header", ["Content-Length: 20000000", "Transfer-Encoding: chunked"])
@pytest.mark.parametrize("target", ["/runpod/webhook", "/health", UNSIGNED])
def test_a_body_without_a_signature_is_refused_at_the_end_of_the_headers(target: str, header: str) -> None:
    request = parsed(target, header, "Expect: 100-continue")
    assert (request.completed, request.error.code, request.expect_continue) == (True, 403, False)


def test_a_signed_body_is_waited_for_and_taken_whole() -> None:
    request = parsed(signed(), "Content-Length: 7", body=b'{"id":')
    assert (request.completed, request.error) == (False, None)
    request.received(b"1")
    assert (request.completed, request.error, request.get_body_stream().read()) == (True, None, b'{"id":1')


def test_what_has_no_body_goes_to_the_application() -> None:
    for target in ("/health", UNSIGNED):
        assert (parsed(target).completed, parsed(target).error) == (True, None)


def test_a_body_over_the_limit_is_refused_by_its_length() -> None:
    assert parsed(signed(), f"Content-Length: {MOST_BYTES + 1}").error.code == 413
    assert parsed(signed(), f"Content-Length: {MOST_BYTES}").error is None


def test_silent_connections_and_endless_requests_are_closed() -> None:
    now = time.time()

    def channel(silent_s: float, begun_s: float | None) -> Any:
        request = None if begun_s is None else SimpleNamespace(begun_at=now - begun_s)
        return SimpleNamespace(requests=[], last_activity=now - silent_s, request=request, will_close=False)

    server = Receiver(lambda *_: [], "127.0.0.1", 0, 1)
    try:
        channels = [
            channel(SILENT_S + 1, None),
            channel(SILENT_S - 1, None),
            channel(1, REQUEST_S + 1),
            channel(1, REQUEST_S - 1),
        ]
        server.active_channels = dict(enumerate(channels))
        server.maintenance(now)
        assert [one.will_close for one in channels] == [True, False, True, False]
    finally:
        server.task_dispatcher.shutdown()
        server.close()


@pytest.mark.parametrize(
    ("limits", "most", "raised"),
    [
        ((1024, 1_048_576), MOST_CONNECTIONS, (8_100, 1_048_576)),
        ((1024, 4_096), 1_998, (4_096, 4_096)),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), MOST_CONNECTIONS, None),
    ],
)
def test_connections_are_bounded_by_the_files_that_may_be_open(
    monkeypatch: pytest.MonkeyPatch, limits: tuple[int, int], most: int, raised: tuple[int, int] | None
) -> None:
    seen: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda _, given: seen.append(given))
    assert webhook_server._most_connections() == most
    assert seen == ([raised] if raised else [])
