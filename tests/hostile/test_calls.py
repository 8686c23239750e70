"""Calls whose publish failed, and queues that somebody emptied: what the caller was refused, or took back, is not run."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from celery import chain, group
from celery.canvas import Signature
from kombu.exceptions import OperationalError
from redis import Redis
from redis.exceptions import RedisError

from celery_runpod.errors import BrokerUnavailable
from celery_runpod.results import JobResult
from tests.application import same
from tests.hostile.conftest import servers_of, start_workers
from tests.hostile.harm import WAIT_S, command, end_of, stays
from tests.servers import ROOT, World
from tests.waiting import eventually

LOOKS_S = 6.0
"""Many of the looks for lost calls, which are made each half second here."""
REFUSED = (BrokerUnavailable, OperationalError, RedisError)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The broker is a Redis of its own, so that it can refuse what the store takes."""

    def prepare(world: World) -> None:
        world.broker_url = world.stack.redis()
        world.stack.env["RUNPOD_BROKER_URL"] = world.broker_url
        start_workers(world)

    # A purged call may be missing for a while on a busy machine, and is to be run all the same.
    env = {"RUNPOD_UNCONFIRMED_WINDOW_S": "600"}
    with servers_of(tmp_path_factory.mktemp("calls"), prepare=prepare, env=env) as world:
        yield world


@pytest.fixture
def world(servers: World, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("REDIS_URL", servers.redis_url)
    monkeypatch.setenv("RUNPOD_BROKER_URL", servers.broker_url)
    servers.app()
    if not any(server.name.startswith("runpod") for server in servers.stack.servers):
        start_workers(servers, application=False)
    return servers


@pytest.fixture
def broker(world: World) -> Iterator[Any]:
    redis: Any = Redis.from_url(world.broker_url, decode_responses=True)
    yield redis
    redis.config_set("maxmemory", 0)


def canvas(world: World, shape: str, mark: str) -> Signature:
    fast = world.endpoint("fast")
    match shape:
        case "signature":
            return fast.si({"mark": mark})
        case "chain":
            return chain(fast.si({"mark": mark}), same.s())
        case "group":
            return group([fast.si({"mark": mark})])
    raise ValueError(shape)


def test_calls_that_were_refused_do_not_run_and_their_repeats_are_paid_once(world: World, broker: Any) -> None:
    marks = {shape: uuid.uuid4().hex for shape in ("delay", "signature", "chain", "group")}

    def call(shape: str) -> Any:
        mark = marks[shape]
        return world.endpoint("fast").delay(mark=mark) if shape == "delay" else canvas(world, shape, mark).apply_async()

    def refused(shape: str) -> bool:
        try:
            call(shape)
        except REFUSED:
            return True
        return False

    def submits() -> dict[str, int]:
        return {shape: len(world.submits(mark)) for shape, mark in marks.items()}

    broker.config_set("maxmemory", 1)
    # Some answer with the error; none may say nothing and run it, nor say an error and run it.
    untold = [shape for shape in marks if not refused(shape)]
    assert untold == [], "the broker took nothing, and the caller was told of nothing"
    broker.config_set("maxmemory", 0)
    stays(submits, dict.fromkeys(marks, 0), for_s=LOOKS_S)
    results = {shape: call(shape) for shape in marks}
    eventually(lambda: [shape for shape, one in results.items() if not one.ready()], [], within_s=WAIT_S)
    stays(submits, dict.fromkeys(marks, 1), for_s=LOOKS_S)
    eventually(world.open_jobs, [], within_s=WAIT_S)


def purge(world: World, broker: Any, how: str) -> None:
    match how:
        case "celery purge":
            celery = [sys.executable, "-m", "celery", "-A", "tests.application", "purge", "-f", "-Q", "runpod"]
            answer = subprocess.run(
                celery, cwd=ROOT, env=world.stack.env, capture_output=True, text=True, timeout=60, check=False
            )
            assert answer.returncode == 0, answer.stderr
        case "deleted":
            broker.delete("runpod")
        case "flushed":
            broker.flushdb()


@pytest.mark.parametrize("how", ["celery purge", "deleted", "flushed"])
def test_what_was_taken_back_is_not_run_also_where_its_queue_was_purged(world: World, broker: Any, how: str) -> None:
    results = {mark: calls_that_wait(world, broker, mark) for mark in (uuid.uuid4().hex for _ in range(5))}
    purge(world, broker, how)
    answer = command(world, "purge", "--calls", "--yes")
    assert answer.returncode == 0, answer.stderr
    start_workers(world, application=False)
    eventually(lambda: {result.state for result in results.values()}, {"REVOKED"}, within_s=WAIT_S)
    stays(lambda: sum(len(world.submits(mark)) for mark in results), 0, for_s=2)
    # And nobody is kept from calling again.
    mark = uuid.uuid4().hex
    assert end_of(world, world.endpoint("fast").delay(mark=mark).id) == {"mark": mark}


def test_a_purged_queue_alone_loses_no_call_and_pays_none_twice(world: World, broker: Any) -> None:
    """docs/decisions/0015: nothing tells a purge from a loss, so one command takes back what waits."""
    results = {mark: calls_that_wait(world, broker, mark) for mark in (uuid.uuid4().hex for _ in range(5))}
    purge(world, broker, "celery purge")
    start_workers(world, application=False)
    assert {mark: end_of(world, result.id) for mark, result in results.items()} == {
        mark: {"mark": mark} for mark in results
    }
    assert [len(world.submits(mark)) for mark in results] == [1] * 5
    eventually(world.open_jobs, [], within_s=WAIT_S)


def calls_that_wait(world: World, broker: Any, mark: str) -> JobResult:
    """A call that is in its queue, and no worker that could take it."""
    for server in [one for one in world.stack.servers if one.name.startswith("runpod")]:
        world.stack.remove(server)
        server.log.unlink()
    waiting = broker.llen("runpod")
    result = world.endpoint("fast").delay(mark=mark)
    eventually(lambda: broker.llen("runpod"), waiting + 1, within_s=WAIT_S)
    return result
