"""A store of fakeredis with a few jobs, and Celery's own memory broker: the command line needs no more."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import fakeredis
import pytest
from click.testing import CliRunner
from redis import Redis

from celery_runpod import _cancelling, results
from celery_runpod._cli import store_for_commands
from celery_runpod._store.keys import Keys
from celery_runpod._store.record import JobRecord
from celery_runpod._store.store import JobStore
from celery_runpod.options import Options

NAMES = ("RUNPOD_", "REDIS_", "CELERY_")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of the machine's own settings."""
    import os

    for name in list(os.environ):
        if name.startswith(NAMES):
            monkeypatch.delenv(name)
    monkeypatch.setenv("RUNPOD_BROKER_URL", "memory://")
    monkeypatch.setenv("RUNPOD_RESULT_BACKEND", "cache+memory://")


@pytest.fixture
def runner() -> CliRunner:
    return CliRunner()


@pytest.fixture
def redis(monkeypatch: pytest.MonkeyPatch) -> Iterator[Redis]:
    fake = fakeredis.FakeRedis(decode_responses=True)
    reader = JobStore(fake, "runpod")
    monkeypatch.setattr(store_for_commands, "open_store", lambda: reader)
    monkeypatch.setattr(results, "store_of", lambda app: reader)
    monkeypatch.setattr(_cancelling, "store_of", lambda app: reader)
    yield fake
    fake.flushall()


@pytest.fixture
def keys() -> Keys:
    return Keys("runpod")


def put(redis: Redis, task_id: str, endpoint: str = "abc", due_in_s: float | None = 100.0, **fields: str) -> None:
    """A record as the worker leaves it."""
    keys = Keys("runpod")
    redis.zadd(keys.endpoints(), {endpoint: 0})
    redis.set(keys.task(task_id), json.dumps({"endpoint": endpoint, "root": task_id}))
    accepted = JobRecord(task_id, endpoint, "sdxl", task_id, "", Options(), accepted_at=1e9, not_before=1e9, end_by=2e9)
    record = {**accepted.to_fields(), "state": "IN_QUEUE", "attempt": "1", "checks": "3", **fields}
    redis.hset(keys.job(endpoint, task_id), mapping=record)
    if due_in_s is not None:
        redis.zadd(keys.due(endpoint), {task_id: time.time() + due_in_s})


def worker_up(redis: Redis) -> None:
    redis.zadd(Keys("runpod").workers(), {"runpod@here": time.time() + 1000})
