"""The API key is in the request and nowhere else: no repr, no log line, nothing that hangs on an exception."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any
from urllib.parse import quote

import pytest

from celery_runpod.api import RunPodClient
from celery_runpod.errors import RunPodError

from .conftest import KEY, MakeClient, Serve
from .servers import Answer, answer, hang_up, only

CASES: dict[str, Answer] = {
    "refused by RunPod": lambda _: answer({"error": "the key is no good"}, 401),
    "the key is told back": lambda _: answer({"error": f"unknown key {KEY}, sorry"}, 401),
    "the key is told back in a page": lambda _: answer(f"<html><title>{KEY}</title>".encode(), 502),
    "the key is told back in plain words": lambda _: answer(f"no {KEY}".encode(), 400),
    "the key is told back as escapes": lambda _: answer(
        b'{"error": "no %s"}' % b"".join(b"\\u%04x" % one for one in KEY.encode()), 400
    ),
    "the key is told back in broken headers": lambda _: only(
        f"HTTP/1.1 403 No\r\n{KEY}\r\nContent-Length: 2\r\n\r\n{{}}".encode()
    ),
    "not HTTP at all": lambda _: only(f"HTTP/1.1 {KEY}\r\n\r\n".encode()),
    "cut": lambda _: hang_up,
    "cut in the body": lambda _: only(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"),
    "limited": lambda _: answer({}, 429),
    "not JSON": lambda _: answer(b"nope"),
    "not a job": lambda _: answer([]),
    "a redirect": lambda _: answer(b"", 307, location=f"https://elsewhere.example/{KEY}"),
}


def everything_on(error: BaseException) -> Iterator[object]:
    """What an error tracker could show of an error: its fields, its chain, and the local variables of our frames."""
    seen: set[int] = set()
    todo: list[BaseException] = [error]
    while todo:
        one = todo.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield from (str(one), repr(one), one.args, vars(one))
        todo += [linked for linked in (one.__cause__, one.__context__) if linked is not None]
        trace = one.__traceback__
        while trace is not None:
            yield from _locals(trace.tb_frame)
            trace = trace.tb_next


def _locals(frame: FrameType) -> Iterator[object]:
    if "celery_runpod" in frame.f_code.co_filename:
        yield from ({name: repr(value)} for name, value in frame.f_locals.items())


def assert_no_key_in(error: BaseException) -> None:
    for told in everything_on(error):
        assert KEY not in repr(told)
    assert KEY not in "".join(traceback.TracebackException.from_exception(error, capture_locals=False).format())
    assert error.__cause__ is None
    assert error.__context__ is None


@pytest.mark.parametrize("case", CASES)
def test_no_error_holds_the_key(
    serve: Serve, client_of: MakeClient, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server = serve(CASES[case])
    with pytest.raises(RunPodError) as caught:
        client_of(server).run("sdxl", {"prompt": "x"})
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert_no_key_in(caught.value)
    assert KEY not in caplog.text


SIGNATURE = "0af3" * 16


@pytest.mark.parametrize("encoded", [0, 1, 2])
def test_no_error_holds_the_signature_of_a_webhook(serve: Serve, client_of: MakeClient, encoded: int) -> None:
    query = f"task=t&signature={SIGNATURE}"
    for _ in range(encoded):
        query = quote(query, safe="")
    server = serve(lambda _: answer({"error": f'no webhook "https://example.org/?{query}"'}, 400))
    with pytest.raises(RunPodError) as caught:
        client_of(server).run("sdxl", {"prompt": "x"})
    for held in everything_on(caught.value):
        assert SIGNATURE not in repr(held)
    assert "***" in str(caught.value)


def test_no_error_of_a_connection_holds_the_key() -> None:
    with pytest.raises(RunPodError) as caught:
        RunPodClient(KEY, base_url="http://127.0.0.1:1").status("sdxl", "a")
    assert_no_key_in(caught.value)


def test_no_error_about_the_key_holds_it() -> None:
    with pytest.raises(RunPodError) as caught:
        RunPodClient(lambda: f"{KEY} {KEY}").status("sdxl", "a")
    for told in everything_on(caught.value):
        assert KEY not in repr(told)


@pytest.mark.parametrize(
    "show", [repr, str, lambda client: repr(vars(client)), lambda client: repr(vars(client._http))]
)
def test_no_repr_holds_the_key(serve: Serve, client_of: MakeClient, show: Callable[[Any], str]) -> None:
    server = serve(lambda _: answer({"id": "a", "status": "IN_QUEUE"}))
    client = client_of(server)
    client.run("sdxl", 1)
    assert KEY not in show(client)


def test_the_key_of_a_success_is_left_where_it_is(serve: Serve, client_of: MakeClient) -> None:
    """An output is the caller's own, whatever is in it."""
    server = serve(lambda _: answer({"id": "a", "status": "COMPLETED", "output": KEY}))
    assert client_of(server).status("sdxl", "a").result() == KEY
