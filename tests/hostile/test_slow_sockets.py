"""Clients that never finish a sentence: whoever holds sockets open at `celery-runpod webhooks` keeps nobody else out."""

from __future__ import annotations

import contextlib
import resource
import socket
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest
import requests

from celery_runpod._devstack.stack import free_port
from tests.hostile.conftest import servers_of, start_workers
from tests.hostile.harm import (
    WAIT_S,
    end_of,
    health_answers,
    no_harm,
    resident_bytes,
    revive,
    serve_webhooks,
    webhook_of,
)
from tests.servers import World
from tests.waiting import eventually

HALF_SENT, SLOW_BODIES = 1_000, 100
MOST_GROWTH_BYTES = 200_000_000
PROMISED_S = 1.0
SPARE_FILES = 500


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory, port: int) -> Iterator[World]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 2 * (HALF_SENT + SLOW_BODIES) + SPARE_FILES
    if soft < needed:
        # What is started below inherits it.
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed if hard == resource.RLIM_INFINITY else hard, hard))
    env = {
        "RUNPOD_WEBHOOK_URL": f"http://127.0.0.1:{port}/runpod/webhook",
        "RUNPOD_WEBHOOK_SECRET": "a secret of more than sixteen characters",
    }

    def prepare(world: World) -> None:
        serve_webhooks(world, port)
        start_workers(world, application=False)

    with servers_of(tmp_path_factory.mktemp("sockets"), env=env, prepare=prepare) as world:
        yield world


@pytest.fixture
def world(servers: World, port: int) -> World:
    servers.app()
    eventually(lambda: health_answers(port, within_s=5), True, within_s=120)
    revive(servers, lambda world: start_workers(world, application=False))
    return servers


@contextlib.contextmanager
def held(port: int, count: int, first_words: bytes) -> Iterator[list[socket.socket]]:
    """So many connections that have said the first words, and say no more."""
    sockets: list[socket.socket] = []
    try:
        for _ in range(count):
            one = socket.create_connection(("127.0.0.1", port), timeout=30)
            sockets.append(one)
            with contextlib.suppress(OSError):
                one.sendall(first_words)
        yield sockets
    finally:
        for one in sockets:
            one.close()


def answers_in_time(port: int, within_s: float = WAIT_S) -> bool:
    """Whether /health answers within the promised second: the best of the tries of a minute, since this machine may be
    busy with other things."""
    give_up = time.monotonic() + within_s
    while time.monotonic() < give_up:
        if health_answers(port, within_s=PROMISED_S):
            return True
        time.sleep(0.2)
    return False


def a_result_by_webhook(world: World) -> None:
    """A job whose end is looked for in a minute, and told by a webhook before."""
    mark = uuid.uuid4().hex
    result = world.endpoint("fast", backoff={"first": 60, "cap": 60}).delay(mark=mark)
    assert end_of(world, result.id, within_s=50) == {"mark": mark}


REQUEST = b"POST /runpod/webhook?endpoint=fast&task=x&attempt=1&signature=0 HTTP/1.1\r\nHost: x\r\n"
WITH_BODY = REQUEST + b"Content-Type: application/json\r\nContent-Length: 20000000\r\n\r\n"


@pytest.mark.parametrize(
    "first_words",
    [REQUEST, b"POST /runp", b"", WITH_BODY + b'{"id": "'],
    ids=["half a header", "half a line", "silent", "half a body"],
)
def test_a_thousand_half_sent_requests_keep_nobody_out(world: World, port: int, first_words: bytes) -> None:
    with no_harm(world, submits=1), held(port, HALF_SENT, first_words):
        for _ in range(5):
            assert answers_in_time(port)
        a_result_by_webhook(world)
        assert answers_in_time(port)


def test_a_hundred_bodies_that_trickle_keep_nobody_out(world: World, port: int) -> None:
    with no_harm(world, submits=1), held(port, SLOW_BODIES, WITH_BODY) as sockets:

        def trickle() -> None:
            for one in sockets:
                with contextlib.suppress(OSError):
                    one.send(b"x")

        for _ in range(10):
            trickle()
            assert answers_in_time(port)
        a_result_by_webhook(world)
        trickle()
        assert answers_in_time(port)


def test_signed_bodies_that_trickle_keep_nobody_out(world: World, port: int) -> None:
    mark = uuid.uuid4().hex
    with no_harm(world, submits=2):
        result = world.endpoint("fast").delay(mark=mark)
        assert end_of(world, result.id) == {"mark": mark}
        signed = urlsplit(webhook_of(world, mark)).query.encode()
        words = b"POST /runpod/webhook?" + signed + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 20000000\r\n\r\n"
        with held(port, SLOW_BODIES, words):
            for _ in range(5):
                assert answers_in_time(port)
            a_result_by_webhook(world)


def test_unsigned_bodies_of_25_megabytes_fill_no_memory(world: World, port: int) -> None:
    server = next(one for one in world.stack.servers if one.name == "webhooks")
    with no_harm(world):
        before = resident_bytes(server)
        most = 0

        def attack(_: int) -> int:
            try:
                url = f"http://127.0.0.1:{port}/runpod/webhook"
                return requests.post(url, data=b"x" * 24_900_000, timeout=120).status_code
            except requests.RequestException:
                return 0

        with ThreadPoolExecutor(16) as pool:
            answers = [pool.submit(attack, number) for number in range(32)]
            while not all(answer.done() for answer in answers):
                most = max(most, resident_bytes(server))
                time.sleep(0.05)
        assert {answer.result() for answer in answers} <= {0, 403, 413}
        assert most - before < MOST_GROWTH_BYTES
        assert answers_in_time(port)
