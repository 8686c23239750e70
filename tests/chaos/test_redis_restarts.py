"""Redis goes away and comes back with its AOF: the workers wait for it, and go on."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.exceptions import RedisError

from celery_runpod import JobResult
from celery_runpod._devstack.stack import Server
from tests.chaos.conftest import SHORT_WAITS
from tests.servers import World
from tests.waiting import eventually

REDIS = ("--appendfsync", "no")
"""What is killed is the process, not the machine: each command is written before it is answered."""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    env = {**SHORT_WAITS, "RUNPOD_SUBMIT_TIMEOUT_S": "4"}
    with World(tmp_path, endpoints=["slow=synthetic:duration=6"], env=env, redis=REDIS) as world:
        yield world.start(application=None)


def _server(world: World, name: str) -> Server:
    return next(server for server in world.stack.servers if server.name.startswith(name))


def _restart_redis(world: World, signum: int) -> None:
    server = _server(world, "redis-")
    server.kill(signum)
    server.process.wait()
    world.stack.remove(server)
    time.sleep(1)
    world.stack.redis(port=int(server.name.removeprefix("redis-")), arguments=REDIS)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL], ids=lambda signum: signum.name)
def test_a_worker_that_holds_a_countdown_outlives_a_restart_of_redis(world: World, signum: signal.Signals) -> None:
    task_id = world.endpoint("slow", backoff={"first": 3, "cap": 3}).delay(a=1).id
    eventually(lambda: world.redis.hlen("runpod.unacked"), 1)
    _restart_redis(world, signum)
    _ends_well(world, task_id)


def test_a_worker_whose_task_outlives_the_connection_outlives_it_too(world: World) -> None:
    world.fault(endpoint="slow", operation="run", kind="delay", seconds=3)
    task_id = world.endpoint("slow").delay(a=1).id
    eventually(lambda: world.redis.hget(f"{{runpod:slow}}:job:{task_id}", "state"), "SUBMITTING")
    _restart_redis(world, signal.SIGKILL)
    _ends_well(world, task_id)


def _ends_well(world: World, task_id: str) -> None:
    def state() -> str:
        try:
            return str(JobResult(task_id, app=world.app()).state)
        except RedisError:
            return "Redis is away"

    eventually(state, "SUCCESS", within_s=60)
    assert _server(world, "runpod").process.poll() is None
    assert len(world.jobs()) == 1
    eventually(world.open_jobs, [], within_s=60)
