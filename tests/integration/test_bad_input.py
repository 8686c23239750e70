"""What is wrong with a call, a key or an endpoint reaches the caller as a typed error, and leaves no job behind."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, chain
from celery.exceptions import TaskRevokedError

from celery_runpod import Endpoint
from celery_runpod._devstack.stack import free_port
from celery_runpod.errors import (
    BrokerUnavailable,
    DeadlineExceeded,
    EndpointNotFound,
    InvalidInput,
    InvalidOption,
    JobFailed,
    JobTimedOut,
    PayloadTooLarge,
    StartTimeout,
    Unauthorized,
)
from tests.application import app, same
from tests.servers import API_KEY, ROOT, World
from tests.waiting import eventually

WAIT_S = 60


@contextmanager
def _world(folder: Path, **worker_env: str) -> Iterator[World]:
    """A world of its own, whose worker has these variables."""
    with World(folder) as world:
        world.stack.worker(env=worker_env, cwd=ROOT)
        yield world
        eventually(world.open_jobs, [], within_s=60)


# Endpoints and keys


def test_an_unknown_endpoint(world: World) -> None:
    result = world.endpoint("nobody").delay(a=1)
    with pytest.raises(EndpointNotFound) as caught:
        result.get(timeout=WAIT_S)
    assert (caught.value.endpoint, caught.value.task_id, caught.value.status) == ("nobody", result.id, 404)


def test_a_wrong_key_in_the_worker(tmp_path: Path) -> None:
    with _world(tmp_path, RUNPOD_API_KEY="another-key") as world:
        result = world.endpoint("fast").delay(a=1)
        with pytest.raises(Unauthorized) as caught:
            result.get(timeout=WAIT_S)
        assert "another-key" not in str(caught.value)
        assert API_KEY not in str(caught.value)
        assert world.jobs() == []


# Inputs


@pytest.mark.parametrize("before", [[1, 2], "text", 3, None], ids=repr)
def test_fields_over_a_previous_result_that_is_no_dict(world: World, before: Any) -> None:
    mark = uuid.uuid4().hex
    result = chain(same.s(before), world.endpoint("fast").s(mark=mark)).delay()
    with pytest.raises(InvalidInput, match="cannot merge dict over"):
        result.get(timeout=WAIT_S)
    assert world.statuses(mark) == []


def test_a_previous_result_that_json_does_not_know(world: World) -> None:
    mark = uuid.uuid4().hex
    result = chain(same.s({"value": float("nan")}), world.endpoint("fast").s(mark=mark)).delay()
    with pytest.raises(InvalidInput):
        result.get(timeout=WAIT_S)
    assert world.statuses(mark) == []


def test_a_previous_result_over_10_mb(world: World) -> None:
    mark = uuid.uuid4().hex
    result = chain(same.s({"text": "x" * 10_500_000}), world.endpoint("fast").s(mark=mark)).delay()
    with pytest.raises(PayloadTooLarge) as caught:
        result.get(timeout=WAIT_S)
    assert caught.value.size_bytes > caught.value.limit_bytes > 0
    assert world.statuses(mark) == []


@pytest.mark.parametrize(
    "steps", [lambda one: one, lambda one: chain(same.s(1), one, same.s())], ids=["alone", "chain"]
)
def test_an_input_over_10_mb_is_refused_at_the_call(world: World, steps: Callable[[Any], Any]) -> None:
    with pytest.raises(PayloadTooLarge):
        steps(world.endpoint("fast").s({"text": "x" * 10_500_000}))


# Messages of other programs


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"endpoint": "fast", "options": {"nope": 1}}, InvalidOption),
        ({"endpoint": "fast", "options": {"deadline": -1}}, InvalidOption),
        ({"endpoint": "fast", "options": {"deadline": 600_000}}, InvalidOption),
        ({"endpoint": "fast", "nope": 1}, InvalidOption),
        ({}, InvalidInput),
        ({"endpoint": 3}, InvalidInput),
        ({"endpoint": "../pods"}, InvalidInput),
    ],
    ids=repr,
)
def test_a_wrong_message_sent_by_name(world: World, arguments: dict[str, Any], error: type[Exception]) -> None:
    before = len(world.jobs())
    world.app()
    result = app.send_task("runpod.run", args=[{}], kwargs=arguments, queue="runpod")
    with pytest.raises(error):
        result.get(timeout=WAIT_S)
    assert len(world.jobs()) == before


@pytest.mark.parametrize(
    "arguments",
    [
        {"endpoint": "fast", "options": ["nope"]},
        {"endpoint": "fast", "fields": 3},
        {"endpoint": "fast", "not_before": "tomorrow"},
        {"endpoint": "fast", "format": "new"},
    ],
    ids=repr,
)
def test_a_message_whose_parts_are_of_a_wrong_kind(world: World, arguments: dict[str, Any]) -> None:
    world.app()
    result = app.send_task("runpod.run", args=[{}], kwargs=arguments, queue="runpod")
    with pytest.raises((InvalidInput, InvalidOption)):
        result.get(timeout=WAIT_S)


# Handlers


def test_a_handler_that_raises(world: World) -> None:
    with pytest.raises(JobFailed, match="asked for an exception") as caught:
        world.endpoint("fail").delay(how="raise").get(timeout=WAIT_S)
    assert caught.value.error_type == "ValueError"


def test_a_handler_whose_process_exits(world: World) -> None:
    with pytest.raises(JobFailed):
        world.endpoint("fail").delay(how="exit").get(timeout=WAIT_S)


def test_a_handler_that_hangs(world: World) -> None:
    with pytest.raises(JobTimedOut):
        world.endpoint("fail", execution_timeout=5).delay(how="hang").get(timeout=WAIT_S)


# Time


def test_a_deadline(world: World) -> None:
    mark = uuid.uuid4().hex
    result = world.endpoint("slow", deadline=2).delay(mark=mark)
    with pytest.raises(DeadlineExceeded) as caught:
        result.get(timeout=WAIT_S)
    assert caught.value.deadline_s == 2
    assert caught.value.job_id
    eventually(lambda: world.statuses(mark), ["CANCELLED"])


def test_no_gpu_takes_the_job_in_time(world: World) -> None:
    mark = uuid.uuid4().hex
    busy = world.endpoint("queued").delay(a=1)
    eventually(lambda: busy.state, "IN_PROGRESS")
    try:
        with pytest.raises(StartTimeout):
            world.endpoint("queued", start_timeout=2).delay(mark=mark).get(timeout=WAIT_S)
        eventually(lambda: world.statuses(mark), ["CANCELLED"])
    finally:
        busy.cancel()
    eventually(lambda: busy.state, "REVOKED")


@pytest.mark.parametrize("countdown", [None, 3])
def test_a_call_that_expired(world: World, countdown: float | None) -> None:
    mark = uuid.uuid4().hex
    expires = datetime.now(UTC) + timedelta(seconds=-1 if countdown is None else 1)
    result = world.endpoint("fast").apply_async(({"mark": mark},), countdown=countdown, expires=expires)
    with pytest.raises(TaskRevokedError):
        result.get(timeout=WAIT_S)
    assert result.state == "REVOKED"
    assert world.statuses(mark) == []


# What is away


def test_no_redis_at_the_caller() -> None:
    url = f"redis://:secret-password@127.0.0.1:{free_port()}/0"
    alone = Celery("alone", broker=url, backend=url, set_as_current=False)
    with pytest.raises(BrokerUnavailable) as caught:
        Endpoint("fast", app=alone).delay(a=1)
    assert caught.value.role == "broker"
    assert "secret-password" not in str(caught.value)


def test_no_worker_is_up(tmp_path: Path) -> None:
    with World(tmp_path) as world:
        result = world.endpoint("fast").delay(a=1)
        assert result.reason == "NO_WORKER"
        assert result.state == "PENDING"
        world.stack.worker(cwd=ROOT)
        assert result.get(timeout=WAIT_S) == {"a": 1}
        assert result.reason is None
        eventually(world.open_jobs, [])
