"""Redis frozen, out of memory, emptied: the workers live on, and what was accepted ends once."""

from __future__ import annotations

import signal
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import RedisError

from celery_runpod import JobResult
from celery_runpod._devstack.stack import Server, free_port
from celery_runpod.errors import BrokerUnavailable
from tests.chaos.conftest import SHORT_WAITS
from tests.servers import World, forget_connections
from tests.waiting import eventually

WAIT_S = 90


@contextmanager
def world_in(folder: Path) -> Iterator[World]:
    # What is killed is the process, not the machine: each command is written before it is answered.
    redis = ("--appendfsync", "no")
    endpoints = ["six=synthetic:duration=6", "other=synthetic:duration=6", "fast=synthetic:duration=0.3"]
    with World(folder, endpoints=endpoints, env=SHORT_WAITS, redis=redis) as world:
        yield world.start(application=None)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world_in(tmp_path_factory.mktemp("trouble")) as world:
        yield world


@pytest.fixture
def world(servers: World) -> Iterator[World]:
    """For a trouble after which Redis is as it was: the worker that outlives it meets the next one."""
    servers.app()
    forget_connections()
    yield servers
    servers.no_faults()
    assert worker(servers).process.poll() is None
    eventually(servers.open_jobs, [], within_s=60)


def worker(world: World) -> Server:
    return next(server for server in world.stack.servers if server.name == "runpod0")


def state(world: World, task_id: str) -> str:
    forget_connections()
    try:
        return str(JobResult(task_id, app=world.app()).state)
    except RedisError:
        return "Redis is away"


def result(world: World, task_id: str) -> Any:
    eventually(lambda: state(world, task_id), "SUCCESS", within_s=WAIT_S)
    return JobResult(task_id, app=world.app()).result


def test_a_redis_that_freezes_holds_everything_up_and_loses_nothing(world: World) -> None:
    marks = [uuid.uuid4().hex for _ in range(5)]
    ids = [world.endpoint("six").delay(mark=mark).id for mark in marks]
    eventually(lambda: [len(world.submits(mark)) for mark in marks], [1] * 5)
    read = len(worker(world).text())
    world.redis_server.kill(signal.SIGSTOP)
    eventually(lambda: "store.away" in worker(world).text()[read:], True, within_s=180)
    world.redis_server.kill(signal.SIGCONT)
    assert [result(world, task_id)["mark"] for task_id in ids] == marks
    assert [len(world.submits(mark)) for mark in marks] == [1] * 5


def test_a_redis_that_is_out_of_memory_is_told_to_callers_and_waited_for_by_workers(world: World) -> None:
    mark = uuid.uuid4().hex
    running = world.endpoint("six").delay(mark=mark).id
    eventually(lambda: state(world, running), "IN_PROGRESS")
    read = len(worker(world).text())
    world.redis.config_set("maxmemory", 1)
    with pytest.raises(BrokerUnavailable, match="maxmemory"):
        world.endpoint("fast").delay(mark="refused")
    eventually(lambda: world.statuses(mark), ["COMPLETED"], within_s=60)
    eventually(lambda: "maxmemory" in worker(world).text()[read:], True)
    world.redis.config_set("maxmemory", 0)
    assert result(world, running) == {"mark": mark}
    assert result(world, world.endpoint("fast").delay(mark="taken").id) == {"mark": "taken"}
    assert (len(world.submits(mark)), len(world.submits("refused"))) == (1, 0)


def out_of_memory(world: World, begins: bool) -> None:
    world.redis.config_set("maxmemory", 1 if begins else 0)


def read_only(world: World, begins: bool) -> None:
    """A replica of nobody, as after a failover that made another one the master."""
    world.redis.replicaof(*("127.0.0.1", free_port()) if begins else ("NO", "ONE"))


@pytest.mark.parametrize("trouble", [out_of_memory, read_only])
def test_a_worker_whose_acknowledgements_were_refused_takes_messages_again(
    world: World, trouble: Callable[[World, bool], None]
) -> None:
    """Such messages count as held: as many as the worker has processes, and it would never fetch another."""
    world.fault(operation="status", kind="delay", seconds=1.5)
    marks = [uuid.uuid4().hex, uuid.uuid4().hex]
    ids = [world.endpoint(name).delay(mark=mark).id for name, mark in zip(("six", "other"), marks, strict=True)]

    def statuses() -> list[str]:
        return [status for mark in marks for status in world.statuses(mark)]

    def checks() -> list[int]:
        return [int(world.redis.zcard(f"{{runpod:{name}}}:checks")) for name in ("six", "other")]

    eventually(statuses, ["IN_PROGRESS"] * 2)
    # Checks leave one process to the other tasks: the second endpoint's runs after this one, in the same trouble.
    eventually(lambda: max(checks()), 1)
    trouble(world, True)
    eventually(statuses, ["COMPLETED"] * 2, within_s=60)
    trouble(world, False)
    assert [result(world, task_id) for task_id in ids] == [{"mark": mark} for mark in marks]


def test_an_answer_that_cannot_be_written_down_at_once_is_written_down_later(world: World) -> None:
    mark = uuid.uuid4().hex
    world.fault(endpoint="fast", operation="run", kind="delay", seconds=2, times=1)
    task_id = world.endpoint("fast").delay(mark=mark).id
    eventually(lambda: world.redis.hget(f"{{runpod:fast}}:job:{task_id}", "state"), "SUBMITTING")
    read = len(worker(world).text())
    world.redis.config_set("maxmemory", 1)
    eventually(lambda: "submit.store_away" in worker(world).text()[read:], True)
    world.redis.config_set("maxmemory", 0)
    assert result(world, task_id) == {"mark": mark}
    assert len(world.submits(mark)) == 1


def test_a_redis_that_comes_back_empty_takes_new_calls(tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    with world_in(tmp_path / "world") as world:
        old = world.endpoint("six").delay(mark="old").id
        eventually(lambda: state(world, old), "IN_PROGRESS")
        world.restore(tmp_path / "nothing")
        assert result(world, world.endpoint("fast").delay(mark="new").id) == {"mark": "new"}
        assert len(world.submits("old")) == 1
        assert state(world, old) == "PENDING"
        assert worker(world).process.poll() is None
        eventually(world.open_jobs, [], within_s=60)
