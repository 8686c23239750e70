"""What another version left in Redis ends under its task id. A file here is never changed, only added."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kombu import Connection, Producer

from celery_runpod import JobResult
from tests.application import app
from tests.servers import World
from tests.waiting import eventually

FORMATS = sorted(path for path in Path(__file__).parent.iterdir() if path.name.startswith("format-"))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with World(tmp_path_factory.mktemp("golden"), endpoints=["fast=synthetic:duration=0.2"]) as world:
        yield world.start()


def _read(folder: Path, name: str) -> dict[str, Any]:
    return dict(json.loads((folder / name).read_text()))


def _ends(world: World, task_id: str) -> Any:
    world.redis.delete("golden-link")
    result = JobResult(task_id, app=app)
    eventually(lambda: result.state, "SUCCESS", within_s=60)
    eventually(lambda: world.redis.llen("golden-link"), 1)
    eventually(world.open_jobs, [], within_s=60)
    return result.get()


def _put(world: World, record: dict[str, str], task_id: str, zset: str) -> None:
    world.redis.zadd("runpod:endpoints", {"fast": 0})
    world.redis.set(f"runpod:task:{task_id}", json.dumps({"endpoint": "fast", "root": task_id}))
    world.redis.hset(f"{{runpod:fast}}:job:{task_id}", mapping=record)
    world.redis.zadd(f"{{runpod:fast}}:{zset}", {task_id: float(record["accepted_at"])})


@pytest.mark.parametrize("folder", FORMATS, ids=lambda path: path.name)
def test_a_waiting_record(world: World, folder: Path) -> None:
    _put(world, _read(folder, "waiting.json"), "golden-waiting", "due")
    assert _ends(world, "golden-waiting") == {"a": 1}


@pytest.mark.parametrize("folder", FORMATS, ids=lambda path: path.name)
def test_an_outcome_that_was_not_delivered(world: World, folder: Path) -> None:
    _put(world, _read(folder, "completed.json"), "golden-completed", "undelivered")
    assert _ends(world, "golden-completed") == {"a": 1}


@pytest.mark.parametrize("folder", FORMATS, ids=lambda path: path.name)
def test_a_message(world: World, folder: Path) -> None:
    message = _read(folder, "message.json")
    # A call that is days old is refused, so this one was issued now.
    headers = {**message["headers"], "runpod_issued_at": time.time()}
    with Connection(world.redis_url) as connection:
        Producer(connection).publish(
            message["body"], routing_key="runpod", serializer="json", headers=headers, **message["properties"]
        )
    assert _ends(world, "golden-message") == {"a": 1, "b": 2}


def test_a_record_of_a_newer_format_is_left_alone(world: World) -> None:
    record = {**_read(FORMATS[-1], "waiting.json"), "format": "999"}
    _put(world, record, "golden-newer", "due")
    fast = world.endpoint("fast")
    assert fast.delay(a=2).get(timeout=60) == {"a": 2}
    assert world.redis.hget("{runpod:fast}:job:golden-newer", "state") == "WAITING"
    assert world.redis.zscore("{runpod:fast}:due", "golden-newer") is not None
    world.redis.delete("{runpod:fast}:job:golden-newer")
    world.redis.zrem("{runpod:fast}:due", "golden-newer")
