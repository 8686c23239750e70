"""A pod's log comes as server-sent events, from an answer that goes on: it ends when it is quiet."""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from celery_runpod.api import LogLine, RunPodClient
from celery_runpod.api._pods import log_lines
from celery_runpod.errors import NotOffered, PodNotFound, Unavailable

from .conftest import KEY, MakeManager, Serve
from .rest import POD
from .servers import Act, Loopback, answer, only

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
TO_THE_END = HEAD + b"\r\n"


def event(line: str) -> bytes:
    return f'id: 1\ndata: {{"source":"container","line":"{line}","ts":"2026-06-01T12:02:03Z"}}\n\n'.encode()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def then_quiet(*pieces: bytes) -> Act:
    """These bytes, and then nothing, with the connection open."""

    def act(sock: socket.socket, stopped: threading.Event) -> None:
        for piece in pieces:
            sock.sendall(piece)
        stopped.wait(30)

    return act


@pytest.mark.parametrize(
    "told",
    [
        then_quiet(CHUNKED, chunk(event("one") + event("two")), chunk(event("three"))),
        then_quiet(CHUNKED, chunk(event("one") + event("two")[:9]), chunk(event("two")[9:] + event("three"))),
        then_quiet(TO_THE_END, event("one"), event("two"), event("three")),
        only(CHUNKED, chunk(event("one") + event("two") + event("three")), chunk(b"")),
        only(TO_THE_END, event("one"), event("two"), event("three")[:-1]),
        answer(event("one") + event("two") + event("three")),
    ],
    ids=["chunks", "a line in two chunks", "no chunks", "chunks that end", "an end without a blank line", "a length"],
)
def test_lines_come_until_it_is_quiet(serve: Serve, manager_of: MakeManager, told: bytes | Act) -> None:
    server = serve(lambda _: told)
    lines = list(manager_of(server).pod_logs(POD, tail=3, source="container", quiet=0.5))
    assert [line.text for line in lines] == ["one", "two", "three"]
    assert lines[0] == LogLine("one", "container", datetime(2026, 6, 1, 12, 2, 3, tzinfo=UTC))
    (request,) = server.requests
    assert request.path == f"/v2/pods/{POD}/logs?source=container&tail=3"
    assert request.headers["accept"] == "text/event-stream"


def test_a_line_is_there_before_the_next_one_is_written(serve: Serve, manager_of: MakeManager) -> None:
    go_on = threading.Event()

    def told(sock: socket.socket, stopped: threading.Event) -> None:
        sock.sendall(TO_THE_END + event("one"))
        go_on.wait(30)
        sock.sendall(event("two"))

    lines = manager_of(serve(lambda _: told)).pod_logs(POD, quiet=20)
    assert next(lines).text == "one"
    go_on.set()
    assert [line.text for line in lines] == ["two"]


def test_a_log_that_never_rests_ends_at_its_time(serve: Serve, manager_of: MakeManager) -> None:
    def told(sock: socket.socket, stopped: threading.Event) -> None:
        sock.sendall(CHUNKED)
        for number in itertools.count():
            if stopped.wait(0.01):
                return
            sock.sendall(chunk(event(str(number))))

    lines = list(manager_of(serve(lambda _: told)).pod_logs(POD, quiet=20, timeout=2))
    assert lines[0].text == "0"


def test_a_line_without_an_end_is_not_kept_for_ever(serve: Serve, manager_of: MakeManager) -> None:
    endless = [chunk(b"data: "), *[chunk(b"x" * 100_000)] * 11]
    told = only(CHUNKED, chunk(event("one")), *endless, chunk(b"\n\n" + event("two")), chunk(b""))
    assert [line.text for line in manager_of(serve(lambda _: told)).pod_logs(POD)] == ["one"]


def test_a_log_that_breaks_off(serve: Serve, manager_of: MakeManager) -> None:
    lines = manager_of(serve(lambda _: only(CHUNKED, chunk(event("one")), b"99\r\nhalf a chunk"))).pod_logs(POD)
    assert next(lines).text == "one"
    with pytest.raises(Unavailable, match=f"pod_logs: no answer.*pod {POD}"):
        list(lines)


def test_a_pod_that_is_not_there(serve: Serve, manager_of: MakeManager) -> None:
    with pytest.raises(PodNotFound, match="gone"):
        list(manager_of(serve(lambda _: answer({"detail": "gone"}, 404))).pod_logs(POD))


def test_no_answer_at_all(serve: Serve, manager_of: MakeManager) -> None:
    server = serve(lambda _: answer({}))
    client = manager_of(server)
    server.stop()
    with pytest.raises(Unavailable) as caught:
        list(client.pod_logs(POD))
    assert not caught.value.sent


def test_v1_has_none_and_says_so_at_once(serve: Serve, manager_of: MakeManager) -> None:
    server = serve(lambda _: answer({}))
    with pytest.raises(NotOffered, match="pod_logs: RunPod's REST API v1 does not offer it, v2 does"):
        manager_of(server, "v1").pod_logs(POD)
    assert server.connections == 0


def test_other_calls_of_the_thread_between_two_lines(serve: Serve, manager_of: MakeManager) -> None:
    """A log that is read, or thrown away half-read, while the same thread calls on."""
    server = serve(lambda r: then_quiet(CHUNKED, chunk(event("one") + event("two"))) if "/logs" in r.path else _job())
    lines, jobs = manager_of(server).pod_logs(POD, quiet=0.5), RunPodClient(KEY, base_url=server.url)
    assert next(lines).text == "one"
    assert jobs.status("sdxl", "a").final
    assert next(lines).text == "two"
    _thrown_away(server, manager_of)
    assert jobs.status("sdxl", "a").final
    jobs.close()


def _job() -> bytes:
    return answer({"id": "a", "status": "COMPLETED"})


def _thrown_away(server: Loopback, manager_of: Callable[..., Any]) -> None:
    next(manager_of(server).pod_logs(POD))


@pytest.mark.parametrize(
    ("lines", "texts"),
    [
        ([": a comment", "data: plain", ""], ["plain"]),
        (["data:one", "data: two", ""], ["one\ntwo"]),
        (['data: {"line": 7}', ""], ['{"line": 7}']),
        (["data: " + "[" * 200_000, ""], ["[" * 200_000]),
        (["", "id: 1", "", "event: ping", ""], []),
        (['data: {"line": "last"}'], ["last"]),
    ],
)
def test_events_of_another_shape(lines: list[str], texts: list[str]) -> None:
    assert [line.text for line in log_lines(lines)] == texts
