"""Open pages on real servers: hundreds of streams of one ASGI process over one Redis connection; a few under WSGI."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
import requests
from celery import group
from flask import Flask
from waitress.server import create_server

from celery_runpod import JobResult
from celery_runpod._devstack.stack import Server
from celery_runpod._live import job_pages
from celery_runpod._store.store import store_of
from celery_runpod.flask import RunPod
from tests import django_project
from tests.servers import World
from tests.waiting import eventually

STREAMS, SLOW = 500, 10
MEGABYTES = 20
WITHIN_S = 120.0


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("streams"), endpoints=["slow=synthetic:duration=60"])
    try:
        world.app()
        yield world.start(application=None)
    finally:
        world.stack.stop()


class Page:
    """One open page: the updates that have come."""

    def __init__(self, task_id: str) -> None:
        self.task_id = task_id
        self.updates: list[dict[str, Any]] = []
        self.status = ""

    async def open(self, port: int) -> None:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", port)
        path = f"/runpod/job/events?task={self.task_id}"
        self.writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept-Encoding: gzip\r\n\r\n".encode())
        await self.writer.drain()

    async def read(self) -> None:
        """Read until the last event."""
        self.status = (await self.reader.readline()).decode().strip()
        while line := await self.reader.readline():
            if line.startswith(b"data: "):
                self.updates.append(json.loads(line.removeprefix(b"data: ")))
                if self.updates[-1]["ended"]:
                    return

    @property
    def states(self) -> list[str]:
        return [update["state"] for update in self.updates]


async def until(seen: Any) -> None:
    while not seen():
        await asyncio.sleep(0.05)


def threads(server: Server) -> int:
    return psutil.Process(server.process.pid).num_threads()


def to_redis(server: Server, world: World) -> int:
    """How many connections to Redis a process has."""
    port = int(world.redis_url.rpartition(":")[2].partition("/")[0])
    found = psutil.Process(server.process.pid).net_connections("tcp")
    return sum(bool(one.raddr) and one.raddr.port == port and one.status == "ESTABLISHED" for one in found)


def test_hundreds_of_open_streams_share_one_redis_connection(world: World, django: tuple[Server, int]) -> None:
    server, port = django
    # Calls that wait for their time cost nothing at RunPod.
    flow = group(world.endpoint("slow").signature((), {"n": n}, countdown=600) for n in range(STREAMS)).delay()
    ids = [result.id for result in flow.results]
    eventually(lambda: len(store_of(world.app()).ids.members(flow.id)), STREAMS, within_s=WITHIN_S)
    pages = [Page(task_id) for task_id in ids]
    slow, quick = pages[:SLOW], pages[SLOW:]

    async def test() -> None:
        async with asyncio.timeout(WITHIN_S):
            for start in range(0, STREAMS, 50):
                await asyncio.gather(*(page.open(port) for page in pages[start : start + 50]))
            # Some do not read until the end.
            reading = [asyncio.create_task(page.read()) for page in quick]
            await until(lambda: all(page.updates for page in quick))
            assert {page.status for page in quick} == {"HTTP/1.1 200 OK"}
            assert {(page.updates[0]["state"], page.updates[0]["reason"]) for page in quick} == {
                ("WAITING", "COUNTDOWN")
            }
            assert {page.updates[0]["task"] for page in quick} == set(ids[SLOW:])
            assert await asyncio.to_thread(to_redis, server, world) == 1
            assert threads(server) < 50, "a coroutine for each page, and no thread"
            await asyncio.to_thread(JobResult.of(flow).cancel)
            await asyncio.gather(*reading, *(page.read() for page in slow))
            assert await asyncio.to_thread(to_redis, server, world) == 1
            for page in pages:
                page.writer.close()

    asyncio.run(test())
    assert {page.states[-1] for page in pages} == {"REVOKED"}
    assert {page.updates[-1]["error"]["type"] for page in pages} == {"JobCancelled"}


def test_pages_that_were_left_are_watched_no_more(world: World, django: tuple[Server, int]) -> None:
    _, port = django
    results = [world.endpoint("slow").delay(n=n) for n in range(5)]
    store = store_of(world.app())
    eventually(lambda: {result.state for result in results}, {"IN_PROGRESS"}, within_s=60)
    place = store.ids.place(results[0].id)
    assert place is not None and place.endpoint is not None
    endpoint, ids = place.endpoint, {result.id for result in results}

    async def test() -> None:
        async with asyncio.timeout(WITHIN_S):
            pages = [Page(task_id) for task_id in ids]
            await asyncio.gather(*(page.open(port) for page in pages))
            reading = [asyncio.create_task(page.read()) for page in pages]
            await until(lambda: all(page.updates for page in pages))
            assert await asyncio.to_thread(store.watches.among, endpoint, ids) == ids
            for task in reading:
                task.cancel()
            for page in pages:
                page.writer.transport.abort()

    asyncio.run(test())
    eventually(lambda: store.watches.among(endpoint, ids), set(), within_s=60)
    for result in results:
        result.cancel()


def test_a_stranger_and_a_browser_that_comes_again(world: World, django: tuple[Server, int]) -> None:
    _, port = django
    result = world.endpoint("slow").apply_async(({"a": 1},), countdown=600)
    eventually(lambda: result.reason, "COUNTDOWN", within_s=60)
    base = f"http://127.0.0.1:{port}/runpod/job"
    for path in ("", "/events"):
        refused = requests.get(f"{base}{path}", params={"task": result.id}, headers={"X-User": "stranger"}, timeout=10)
        assert refused.status_code == 404 and "COUNTDOWN" not in refused.text
    shown = requests.get(base, params={"task": result.id}, timeout=10).json()
    assert (shown["state"], shown["reason"], shown["ended"]) == ("WAITING", "COUNTDOWN", False)
    result.cancel()
    eventually(lambda: result.state, "REVOKED", within_s=60)
    events = requests.get(f"{base}/events", params={"task": result.id}, timeout=30)
    assert events.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    last = next(line.removeprefix("id: ") for line in events.text.splitlines() if line.startswith("id: "))
    again = requests.get(f"{base}/events", params={"task": result.id}, headers={"Last-Event-ID": last}, timeout=30)
    assert (again.status_code, again.content) == (204, b"")
    assert requests.get(f"{base}/../static/celery_runpod/celery_runpod.js", timeout=10).status_code == 404
    script = requests.get(f"http://127.0.0.1:{port}/static/celery_runpod/celery_runpod.js", timeout=10)
    assert "javascript" in script.headers["Content-Type"] and "runpod-job" in script.text


# WSGI


def flask_application(world: World) -> Any:
    app = Flask("shop")
    RunPod(app, may_see=lambda request, task_id: True, celery=world.app())
    return app


def django_application(world: World) -> Any:
    return django_project.wsgi()


@pytest.fixture(params=[flask_application, django_application])
def wsgi(request: pytest.FixtureRequest, world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An application on waitress, in a thread, with what both do by default."""
    monkeypatch.setattr(job_pages, "HEARTBEAT_S", 0.2)
    hook = lambda request, task_id: True  # noqa: E731
    monkeypatch.setattr(django_project.settings, "RUNPOD", {"MAY_SEE": hook})
    server: Any = create_server(request.param(world), host="127.0.0.1", port=0)
    thread = threading.Thread(target=server.run, name="waitress", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.effective_port}/runpod/job"
    finally:
        # While the server runs: it closes the streams whose browser has gone.
        eventually(lambda: job_pages.places.taken, 0, within_s=30)
        server.close()
        thread.join(10)


def test_under_wsgi_streams_are_bounded_and_a_closed_one_makes_room(world: World, wsgi: str) -> None:
    result = world.endpoint("slow").apply_async(({"a": 1},), countdown=600)
    eventually(lambda: result.reason, "COUNTDOWN", within_s=60)

    def stream() -> requests.Response:
        return requests.get(f"{wsgi}/events", params={"task": result.id}, stream=True, timeout=30)

    def data_of(response: requests.Response) -> Iterator[dict[str, Any]]:
        for line in response.iter_lines(chunk_size=1, decode_unicode=True):
            if line.startswith("data: "):
                yield json.loads(line.removeprefix("data: "))

    one, two = stream(), stream()
    assert [one.status_code, two.status_code] == [200, 200]
    first, second = data_of(one), data_of(two)
    assert {next(first)["reason"], next(second)["reason"]} == {"COUNTDOWN"}
    refused = stream()
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "10")
    shown = requests.get(wsgi, params={"task": result.id}, timeout=10).json()
    assert (shown["state"], shown["reason"]) == ("WAITING", "COUNTDOWN"), "what the script asks for instead"
    one.close()
    eventually(lambda: job_pages.places.taken, 1, within_s=60)
    three = stream()
    assert three.status_code == 200
    result.cancel()
    for updates in (second, data_of(three)):
        *_, last = updates
        assert (last["state"], last["error"]["type"]) == ("REVOKED", "JobCancelled")


def test_under_wsgi_pages_that_do_not_read_stop_no_others(world: World, wsgi: str) -> None:
    result = world.endpoint("slow").using(stream=True).apply_async(({"a": 1},), countdown=600)
    eventually(lambda: result.reason, "COUNTDOWN", within_s=60)
    # More than waitress keeps for a browser: its thread would wait then.
    for number in range(1, MEGABYTES + 1):
        entry = {"run": "0.1", "attempt": 1, "n": number, "bytes": number * 1_000_000, "chunk": f'"{"x" * 999_998}"'}
        world.redis.xadd(f"{{runpod:slow}}:stream:{result.id}", entry)
    address = urlsplit(wsgi)
    readers = []
    try:
        for _ in range(10):
            readers.append(reader := socket.create_connection((address.hostname, address.port)))
            reader.sendall(f"GET {address.path}/events?task={result.id} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        for _ in range(20):
            shown = requests.get(wsgi, params={"task": result.id}, timeout=60).json()
            assert (shown["state"], shown["reason"]) == ("WAITING", "COUNTDOWN")
        eventually(lambda: job_pages.places.taken, 0, within_s=60)
    finally:
        for reader in readers:
            reader.close()
        result.cancel()
