"""A Redis that comes back with older data: nothing that was paid for in the meantime is submitted, and paid, again."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import chain

from celery_runpod import JobResult
from celery_runpod.errors import SubmissionUnconfirmed
from tests.application import same
from tests.chaos.conftest import SHORT_WAITS
from tests.servers import ROOT, World, forget_connections
from tests.waiting import eventually

WAIT_S = 60


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(
        tmp_path, endpoints=["fast=synthetic:duration=0.3", "five=synthetic:duration=5"], env=SHORT_WAITS
    ) as world:
        yield world


def ends(world: World, task_id: str) -> Any:
    """How a task has ended, read afresh each time: a client's subscription does not outlive its Redis."""

    def ended() -> bool:
        forget_connections()
        return JobResult(task_id, app=world.app()).ready()

    eventually(ended, True, within_s=WAIT_S)
    return JobResult(task_id, app=world.app()).result


@pytest.mark.parametrize("workers", ["live on", "are started anew"])
def test_a_job_that_was_submitted_after_the_snapshot(world: World, tmp_path: Path, workers: str) -> None:
    mark = uuid.uuid4().hex
    worker = world.stack.worker("first", cwd=ROOT)
    result = world.endpoint("fast").apply_async(({"mark": mark},), countdown=8)
    eventually(lambda: result.state, "WAITING")
    world.snapshot(tmp_path / "snapshot")
    assert ends(world, result.id) == {"mark": mark}
    eventually(world.open_jobs, [])
    if workers == "are started anew":
        world.stack.remove(worker)
    world.restore(tmp_path / "snapshot")
    if workers == "are started anew":
        world.stack.worker("second", cwd=ROOT)
    error = ends(world, result.id)
    assert isinstance(error, SubmissionUnconfirmed)
    assert "restored" in str(error)
    assert len(world.submits(mark)) == 1
    assert ends(world, world.endpoint("fast").delay(mark="new").id) == {"mark": "new"}
    eventually(world.open_jobs, [])


def test_a_call_that_was_in_its_queue_at_the_snapshot(world: World, tmp_path: Path) -> None:
    mark = uuid.uuid4().hex
    world.stack.remove(world.stack.worker("before", cwd=ROOT))
    result = world.endpoint("fast").delay(mark=mark)
    world.snapshot(tmp_path / "snapshot")
    world.stack.worker("first", cwd=ROOT)
    assert ends(world, result.id) == {"mark": mark}
    # Its beats go on for longer than what Redis may lose anyway.
    beat = float(world.redis.hget("runpod:incarnation", "beat"))
    eventually(lambda: float(world.redis.hget("runpod:incarnation", "beat")) > beat + 3, True)
    world.restore(tmp_path / "snapshot")
    assert isinstance(ends(world, result.id), SubmissionUnconfirmed)
    assert len(world.submits(mark)) == 1
    eventually(world.open_jobs, [], within_s=60)


def test_a_later_step_of_a_chain_that_ran_on_after_the_snapshot(world: World, tmp_path: Path) -> None:
    mark = uuid.uuid4().hex
    world.start()
    result = chain(
        world.endpoint("five").s(step=1), same.s(), world.endpoint("fast").s(step=2, mark=mark), same.s()
    ).delay()
    first = result.parent.parent.parent
    eventually(lambda: first.state, "IN_PROGRESS")
    world.snapshot(tmp_path / "snapshot")
    assert ends(world, result.id) == {"step": 2, "mark": mark}
    world.restore(tmp_path / "snapshot")
    assert isinstance(ends(world, result.id), SubmissionUnconfirmed)
    assert len(world.submits(mark)) == 1
    eventually(world.open_jobs, [], within_s=60)


def test_a_redis_that_was_only_restarted_holds_nobody_up(world: World) -> None:
    mark = uuid.uuid4().hex
    world.stack.worker("first", cwd=ROOT)
    waiting = world.endpoint("fast").apply_async(({"mark": mark},), countdown=4)
    running = world.endpoint("five").delay(mark="running")
    eventually(lambda: running.state, "IN_PROGRESS")
    for _ in range(2):
        world.stop_redis()
        world.start_redis()
    assert ends(world, waiting.id) == {"mark": mark}
    assert ends(world, running.id) == {"mark": "running"}
    assert (len(world.submits(mark)), len(world.submits("running"))) == (1, 1)
    eventually(world.open_jobs, [])
