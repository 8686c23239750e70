"""Every way in which a call can go wrong, with real sockets: may RunPod have acted on it, or certainly not?"""

from __future__ import annotations

import itertools
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from celery_runpod.api import RunPodClient, _transport
from celery_runpod.errors import BadAnswer, RateLimited, Unavailable

from .conftest import KEY, MakeClient, Serve
from .servers import Act, answer, hang_up, only, reset, silence, trickle

QUEUED = {"id": "9f-u1", "status": "IN_QUEUE"}
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def failure_of(client: RunPodClient) -> Unavailable:
    with pytest.raises(Unavailable) as caught:
        client.run("sdxl", {"prompt": "x"})
    assert (caught.value.operation, caught.value.endpoint) == ("run", "sdxl")
    return caught.value


# Certainly not sent


def test_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    error = failure_of(RunPodClient(KEY, base_url=f"http://127.0.0.1:{port}/v2"))
    assert not error.sent
    assert "refused" in str(error)


def test_unknown_name() -> None:
    assert not failure_of(RunPodClient(KEY, base_url="http://no-such-host.invalid/v2", allow_http=True)).sent


def test_impossible_name() -> None:
    assert not failure_of(RunPodClient(KEY, base_url=f"http://{'x' * 70}.example/v2", allow_http=True)).sent


def test_connecting_takes_too_long() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        # Linux drops further connects once the backlog is full.
        waiting = [socket.socket() for _ in range(4)]
        for sock in waiting:
            sock.setblocking(False)
            sock.connect_ex(address)
        error = failure_of(RunPodClient(KEY, base_url=f"http://127.0.0.1:{address[1]}", connect_timeout=0.1))
        for sock in waiting:
            sock.close()
    assert not error.sent
    assert "timed out" in str(error)


def test_the_server_does_not_speak_tls(serve: Serve) -> None:
    server = serve(lambda _: only(b"HTTP/1.1 400 This is plain HTTP\r\n\r\n"))
    assert not failure_of(RunPodClient(KEY, base_url=server.url.replace("http:", "https:"))).sent
    assert server.requests == []


def test_the_tls_handshake_never_ends(serve: Serve) -> None:
    server = serve(lambda _: b"", mute=True)
    url = server.url.replace("http:", "https:")
    assert not failure_of(RunPodClient(KEY, base_url=url, connect_timeout=0.1)).sent


def test_a_certificate_that_nobody_vouches_for(serve: Serve, client_of: MakeClient, tls: ssl.SSLContext) -> None:
    server = serve(lambda _: answer(QUEUED), tls=tls)
    error = failure_of(client_of(server))
    assert not error.sent
    assert "CERTIFICATE_VERIFY_FAILED" in str(error)
    assert server.requests == []


def test_nothing_is_sent_once_the_time_is_over(serve: Serve, client_of: MakeClient) -> None:
    server = serve(lambda _: answer(QUEUED))
    client = client_of(server)
    ticks = itertools.count(step=15)  # the lookup of the name alone takes 15 s, connecting another 15
    client._http._clock = lambda: next(ticks)
    assert not failure_of(client).sent
    assert server.requests == []


def test_nothing_is_sent_on_a_pooled_connection_either(serve: Serve, client_of: MakeClient) -> None:
    server = serve(lambda _: answer(QUEUED))
    client = client_of(server)
    client.run("sdxl", 1)
    ticks = iter([0.0, 0.1, 30.0])  # the deadline, the look at the idle time, the first byte
    client._http._clock = lambda: next(ticks)
    assert not failure_of(client).sent
    assert len(server.requests) == server.connections == 1


# May have been acted on


@pytest.mark.parametrize(
    "act",
    [
        pytest.param(hang_up, id="closed"),
        pytest.param(reset, id="reset"),
        pytest.param(only(b"HTTP/1.1 200 OK\r\nContent-"), id="cut in the headers"),
        pytest.param(only(HEAD + b'Content-Length: 40\r\n\r\n{"id": "9f-u1", "st'), id="cut in the body"),
        pytest.param(only(HEAD + b"Transfer-Encoding: chunked\r\n\r\n20\r\n{"), id="cut in a chunk"),
        pytest.param(only(HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"), id="cut between chunks"),
        pytest.param(only(HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{"), id="no chunk at all"),
        pytest.param(only(HEAD + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope"), id="not gzip"),
        pytest.param(only(b"what?\r\n\r\n"), id="not HTTP"),
    ],
)
def test_the_answer_breaks_off(serve: Serve, client_of: MakeClient, act: Act) -> None:
    server = serve(lambda _: act)
    assert failure_of(client_of(server)).sent
    assert len(server.requests) == 1, "never sent twice"


def test_a_get_is_not_repeated_behind_the_callers_back_either(serve: Serve, client_of: MakeClient) -> None:
    server = serve(lambda _: hang_up)
    with pytest.raises(Unavailable):
        client_of(server).status("sdxl", "9f-u1")
    assert len(server.requests) == 1


def test_no_answer_comes(serve: Serve, client_of: MakeClient) -> None:
    server = serve(lambda _: silence)
    assert failure_of(client_of(server, read_timeout=0.1)).sent


def test_no_answer_comes_within_the_total_time(serve: Serve, client_of: MakeClient) -> None:
    rest = iter([answer(QUEUED), silence])
    client = client_of(serve(lambda _: next(rest)))
    # The connection is there already: on a busy machine it may take longer than the second call has.
    client.run("sdxl", 1)
    with pytest.raises(Unavailable) as caught:
        client.run("sdxl", 1, timeout=0.5)
    assert caught.value.sent


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([HEAD, b"Content-Length: 9999999\r\n\r\n", *[b" "] * 1000], id="body"),
        pytest.param([HEAD, b"Transfer-Encoding: chunked\r\n\r\n", *[b"1\r\n \r\n"] * 1000], id="chunks"),
        pytest.param([HEAD, *[b"X-Again: 1\r\n"] * 1000], id="headers"),
        pytest.param([b"HTTP/1.1 200 ", *[b"O"] * 1000], id="status line"),
        pytest.param([b"HTTP/1.1 100 Continue\r\n\r\n"] * 1000, id="100 Continue"),
    ],
)
def test_an_answer_that_trickles_is_cut_at_the_total_time(
    serve: Serve, client_of: MakeClient, pieces: list[bytes]
) -> None:
    server = serve(lambda _: trickle(pieces))
    error = failure_of(client_of(server, total_timeout=0.3))
    assert error.sent
    assert "the time for the whole call is over" in str(error) or "timed out" in str(error)


def test_a_trickling_answer_over_tls_is_cut_too(
    serve: Serve, client_of: MakeClient, tls: ssl.SSLContext, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    rest = iter([answer(QUEUED), trickle([HEAD, *[b"X-Again: 1\r\n"] * 1000])])
    client = client_of(serve(lambda _: next(rest), tls=tls))
    client.run("sdxl", 1)
    with pytest.raises(Unavailable) as caught:
        client.run("sdxl", 1, timeout=0.3)
    assert caught.value.sent


def test_a_certificate_of_the_users_own_bundle_is_good(
    serve: Serve, client_of: MakeClient, tls: ssl.SSLContext, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    server = serve(lambda request: answer({"id": "9f-u1", "status": "COMPLETED", "output": len(request.body)}), tls=tls)
    client = client_of(server)
    assert client.run("sdxl", "x" * 500_000).output == 500_012
    assert client.run("sdxl", "x").output == 13
    assert server.connections == 1


def test_a_server_that_stops_reading_a_large_request(serve: Serve, client_of: MakeClient) -> None:
    server = serve(lambda _: b"", mute=True)
    with pytest.raises(Unavailable) as caught:
        client_of(server).run("sdxl", "x" * 9_000_000, timeout=0.3)
    assert caught.value.sent


def test_the_status_of_a_broken_answer_is_told(serve: Serve, client_of: MakeClient) -> None:
    server = serve(lambda _: only(b"HTTP/1.1 404 Not Found\r\nContent-Length: 99\r\n\r\n{"))
    assert failure_of(client_of(server)).status == 404


def test_429_is_not_taken_even_if_its_body_breaks_off(serve: Serve, client_of: MakeClient) -> None:
    server = serve(lambda _: only(b"HTTP/1.1 429 Slow\r\nRetry-After: 7\r\nContent-Length: 99\r\n\r\n"))
    with pytest.raises(RateLimited) as caught:
        client_of(server).run("sdxl", 1)
    assert caught.value.retry_after_s == 7


def test_an_answer_without_end(serve: Serve, client_of: MakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_transport, "MAX_ANSWER_BYTES", 100_000)
    server = serve(lambda _: only(HEAD + b"Content-Length: 900000\r\n\r\n", *[b" " * 90_000] * 10))
    with pytest.raises(BadAnswer, match="longer than"):
        client_of(server).run("sdxl", 1)


def test_no_more_of_an_answer_is_read_than_is_taken(
    serve: Serve, client_of: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_transport, "MAX_ANSWER_BYTES", 100_000)
    sent: list[int] = []

    def pieces() -> Iterator[bytes]:
        yield HEAD + b"Content-Length: 900000000\r\n\r\n"
        for n in range(1000):
            sent.append(n)
            yield b" " * 90_000

    server = serve(lambda _: trickle(pieces()))
    with pytest.raises(BadAnswer, match="longer than"):
        client_of(server).run("sdxl", 1)
    assert len(sent) < 1000


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(serve: Serve, client_of: MakeClient, status: int) -> None:
    server = serve(lambda _: answer(b"", status, location="/v2/sdxl/run"))
    error = failure_of(client_of(server))
    assert error.sent
    assert error.status == status
    assert len(server.requests) == 1


def test_an_answer_given_before_all_was_read_is_heard(serve: Serve, client_of: MakeClient) -> None:
    server = serve(lambda _: answer({"error": "too large"}, 413, connection="close"))
    with pytest.raises(Exception, match="too large"):
        client_of(server).run("sdxl", "x" * 100_000)


def test_an_old_server_that_ends_its_answer_by_closing(serve: Serve, client_of: MakeClient) -> None:
    server = serve(lambda _: only(b'HTTP/1.0 200 OK\r\n\r\n{"id": "9f-u1",', b' "status": "IN_QUEUE"}'))
    assert client_of(server).run("sdxl", 1).id == "9f-u1"


def test_each_address_gets_no_more_than_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """urllib3 would give every address of a name the whole connect timeout."""
    given: list[float] = []

    class Unreachable(socket.socket):
        def connect(self, address: object) -> None:
            given.append(self.gettimeout() or 0)
            raise TimeoutError("timed out")

    found = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (f"192.0.2.{n}", 80)) for n in range(9)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    monkeypatch.setattr(socket, "socket", Unreachable)
    client = RunPodClient(KEY, base_url="http://runpod.example", allow_http=True)
    ticks = itertools.count(step=4.0)
    client._http._clock = lambda: next(ticks)
    assert not failure_of(client).sent
    assert given == [5.0, 5.0, 5.0, 4.0]
