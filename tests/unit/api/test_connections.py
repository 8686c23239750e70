"""Connections: kept, but not when stale; of one process; for many threads; through a proxy; with our own key."""

from __future__ import annotations

import os
import select
import socket
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from celery_runpod.api import RunPodClient
from celery_runpod.api._connections import IDLE_S, Call, calling
from celery_runpod.errors import Unavailable

from .conftest import KEY, MakeClient, Serve
from .servers import Act, Request, answer, only, trickle

COMPLETED = {"id": "a", "status": "COMPLETED"}


def test_a_connection_is_kept_for_the_next_call_whatever_the_endpoint(serve: Serve, client_of: MakeClient) -> None:
    server = serve(lambda _: answer(COMPLETED))
    client = client_of(server)
    client.run("sdxl", 1)
    client.status("sdxl", "a")
    client.run("upscale", 1)
    assert server.connections == 1


def test_one_that_was_idle_is_not_used_again(serve: Serve, client_of: MakeClient) -> None:
    server = serve(lambda _: answer(COMPLETED))
    client, now = client_of(server), [1000.0]
    client._http._clock = lambda: now[0]
    client.run("sdxl", 1)
    now[0] += IDLE_S - 0.1
    client.run("sdxl", 1)
    assert server.connections == 1
    now[0] += IDLE_S
    client.run("sdxl", 1)
    assert server.connections == 2


def test_one_that_the_server_has_closed_is_not_used_again(serve: Serve, client_of: MakeClient) -> None:
    server = serve(lambda _: answer(COMPLETED, connection="close"))
    client = client_of(server)
    for _ in range(3):
        client.run("sdxl", 1)
    assert [request.connection for request in server.requests] == [1, 2, 3]


def test_refused_after_the_server_has_gone_away_is_certain(serve: Serve, client_of: MakeClient) -> None:
    server = serve(lambda _: answer(COMPLETED))
    client = client_of(server)
    client.run("sdxl", 1)
    server.stop()
    with pytest.raises(Unavailable) as caught:
        client.run("sdxl", 1)
    assert not caught.value.sent


def test_after_a_broken_call_the_next_has_a_connection_of_its_own(serve: Serve, client_of: MakeClient) -> None:
    def told(request: Request) -> object:
        if request.connection == 1:
            return only(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{")
        return answer(COMPLETED)

    server = serve(told)
    client = client_of(server)
    with pytest.raises(Unavailable):
        client.status("sdxl", "a")
    assert client.status("sdxl", "a").final


def test_many_threads_use_one_client(serve: Serve, client_of: MakeClient) -> None:
    together = threading.Barrier(32)

    def told(request: Request) -> bytes:
        return answer({"id": request.path.rpartition("/")[2], "status": "COMPLETED"})

    server = serve(told)
    client = client_of(server)

    def ask(thread: int) -> bool:
        together.wait(10)
        return all(client.status("sdxl", f"job-{thread}-{n}").id == f"job-{thread}-{n}" for n in range(20))

    with ThreadPoolExecutor(32) as threads:
        assert all(threads.map(ask, range(32)))
    assert len(server.requests) == 640
    assert server.connections <= 32


def test_a_forked_process_makes_connections_of_its_own(serve: Serve, client_of: MakeClient) -> None:
    server = serve(lambda request: answer({**COMPLETED, "id": request.path.rpartition("/")[2]}))
    client = client_of(server)
    client.status("sdxl", "parent")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            client.status("sdxl", "child")
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    client.status("sdxl", "parent")
    used = {(request.path.rpartition("/")[2], request.connection) for request in server.requests}
    assert used == {("parent", 1), ("child", 2)}


def test_a_netrc_does_not_replace_our_key(
    serve: Serve, client_of: MakeClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    server = serve(lambda _: answer(COMPLETED))
    client_of(server).run("sdxl", 1)
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"


def test_a_proxy_of_the_environment_is_used(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = serve(lambda _: answer(COMPLETED))
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
    RunPodClient(KEY, base_url="http://runpod.example/v2", allow_http=True).status("sdxl", "a")
    assert proxy.requests[0].path == "http://runpod.example/v2/sdxl/status/a"


def test_a_proxy_that_cuts_may_have_passed_the_request_on(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = serve(lambda _: only())
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
    with pytest.raises(Unavailable) as caught:
        RunPodClient(KEY, base_url="http://runpod.example/v2", allow_http=True).run("sdxl", 1)
    assert caught.value.sent


def test_a_proxy_that_refuses_a_tunnel_has_passed_nothing_on(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = serve(lambda _: only())
    monkeypatch.setenv("https_proxy", f"http://somebody:hush@127.0.0.1:{proxy.port}")
    with pytest.raises(Unavailable) as caught:
        RunPodClient(KEY, base_url="https://runpod.example/v2").run("sdxl", 1)
    assert not caught.value.sent
    assert "hush" not in str(caught.value)


def test_a_proxy_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    with pytest.raises(Unavailable) as caught:
        RunPodClient(KEY, base_url="https://runpod.example/v2").run("sdxl", 1)
    assert not caught.value.sent


@pytest.mark.parametrize("proxy", ["http://", "http://[broken", "socks9://127.0.0.1:1"])
def test_a_proxy_that_cannot_be_one(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("https_proxy", proxy)
    with pytest.raises(Unavailable) as caught:
        RunPodClient(KEY, base_url="https://runpod.example/v2", connect_timeout=0.5).run("sdxl", 1)
    assert not caught.value.sent


def test_a_tunnel_through_a_proxy(
    serve: Serve, tls: ssl.SSLContext, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rest = iter([answer(COMPLETED), answer(COMPLETED), answer(COMPLETED), trickle([b"HTTP/1.1 200 OK\r\n"] * 999)])
    server = serve(lambda _: next(rest), tls=tls)
    proxy = serve(lambda _: tunnel_to(server.port))
    monkeypatch.setenv("https_proxy", f"http://somebody:hush@127.0.0.1:{proxy.port}")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    now = [0.0]
    with RunPodClient(KEY, base_url=server.url) as client:
        client._http._clock = lambda: now[0]
        client.run("sdxl", "x" * 100_000)
        client.run("sdxl", 1)
        now[0] += IDLE_S + 1
        client.run("sdxl", 1)
        assert (server.connections, proxy.connections) == (2, 2), "kept, and made anew once it was idle"
        began = time.monotonic()
        client._http._clock = lambda: now[0] + time.monotonic() - began
        with pytest.raises(Unavailable) as caught:
            client.run("sdxl", 1, timeout=0.4)
    assert caught.value.sent
    assert [request.method for request in proxy.requests] == ["CONNECT"] * proxy.connections
    assert all("authorization" not in request.headers for request in proxy.requests), "the key is for RunPod alone"


def tunnel_to(port: int) -> Act:
    """A proxy's answer to CONNECT: from then on it passes bytes on, both ways."""

    def act(sock: socket.socket, stopped: threading.Event) -> None:
        with socket.create_connection(("127.0.0.1", port)) as beyond:
            sock.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            ways = {sock: beyond, beyond: sock}
            while not stopped.is_set():
                for ready in select.select(list(ways), [], [], 0.1)[0]:
                    piece = ready.recv(65_536)
                    if not piece:
                        return
                    ways[ready].sendall(piece)

    return act


def test_cookies_are_not_kept(serve: Serve, client_of: MakeClient) -> None:
    server = serve(lambda _: answer(COMPLETED, set_cookie="__cf_bm=1; Path=/"))
    client = client_of(server)
    client.status("sdxl", "a")
    client.status("sdxl", "a")
    assert "cookie" not in server.requests[1].headers


def test_a_call_within_a_call_gives_the_thread_back(serve: Serve, client_of: MakeClient) -> None:
    """A stream that is thrown away is closed whenever Python likes: in the middle of another call, too."""
    closing = Call(float("inf"), 1, 1, time.monotonic)

    def clock() -> float:
        with calling(closing):
            return time.monotonic()

    client = client_of(serve(lambda _: answer(COMPLETED)))
    client._http._clock = clock
    assert client.status("sdxl", "a").final
