"""Messages that the broker loses: popped by a worker that dies before it has written down that it has them."""

from __future__ import annotations

import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import chain

from celery_runpod import JobResult
from celery_runpod._devstack.stack import Server
from celery_runpod._protocol import Queues
from celery_runpod._store.store import JobStore
from tests.application import app, same
from tests.chaos.conftest import SHORT_WAITS
from tests.servers import ROOT, World
from tests.waiting import eventually

QUEUES = Queues.of("runpod")


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[World]:
    """A world whose one RunPod worker is started by the test."""
    with World(
        tmp_path,
        endpoints=["fast=synthetic:duration=0.3", "slow=synthetic:duration=60"],
        env={**SHORT_WAITS, "RUNPOD_UNCONFIRMED_WINDOW_S": "40"},
    ) as world:
        yield world


def swallow(world: World, worker: Server, queue: str) -> None:
    """Kill a worker that was stopped inside its BRPOP, with what Redis has handed it. Where that BRPOP was over before
    the message came, it is taken in its place: what is left is the same."""
    worker.kill(signal.SIGKILL)
    worker.process.wait()
    world.redis.delete(queue)


def test_a_call_swallowed_by_a_dying_worker_is_run_once(alone: World) -> None:
    mark = uuid.uuid4().hex
    worker = alone.stack.worker("dies", cwd=ROOT)
    worker.kill(signal.SIGSTOP, children=False)
    result = alone.endpoint("fast").delay(mark=mark)
    swallow(alone, worker, QUEUES.run)
    alone.stack.worker("next", cwd=ROOT)
    assert result.get(timeout=60) == {"mark": mark}
    assert len(alone.submits(mark)) == 1
    eventually(alone.open_jobs, [], within_s=60)


def test_a_later_step_of_a_chain_published_by_the_users_worker_is_found_too(alone: World) -> None:
    mark = uuid.uuid4().hex
    worker = alone.stack.worker("dies", cwd=ROOT)
    alone.stack.application("tests.application", cwd=ROOT)
    # Redis gives up a BRPOP after a second: what is published must come before that.
    worker.kill(signal.SIGSTOP, children=False)
    result = chain(same.s({"mark": mark}), alone.endpoint("fast").s(), same.s()).delay()
    eventually(lambda: alone.redis.zcard("{runpod}:outbox"), 1)
    swallow(alone, worker, QUEUES.run)
    alone.stack.worker("next", cwd=ROOT)
    assert result.get(timeout=60) == {"mark": mark}
    assert len(alone.submits(mark)) == 1
    eventually(alone.open_jobs, [], within_s=60)


def test_a_worker_that_wakes_up_with_the_message_that_was_published_again_changes_nothing(alone: World) -> None:
    mark = uuid.uuid4().hex
    worker = alone.stack.worker("sleeps", cwd=ROOT)
    worker.kill(signal.SIGSTOP, children=False)
    result = alone.endpoint("fast").delay(mark=mark)
    alone.stack.worker("next", cwd=ROOT)
    assert result.get(timeout=60) == {"mark": mark}
    worker.kill(signal.SIGCONT, children=False)
    assert alone.endpoint("fast").delay(mark="after").get(timeout=60) == {"mark": "after"}
    eventually(alone.open_jobs, [], within_s=60)
    assert len(alone.submits(mark)) == 1


def test_calls_that_wait_while_every_worker_is_down_are_not_published_a_second_time(alone: World) -> None:
    marks = [uuid.uuid4().hex for _ in range(20)]
    results = [alone.endpoint("fast").delay(mark=mark) for mark in marks]
    worker = alone.stack.worker("late", cwd=ROOT)
    assert [result.get(timeout=60)["mark"] for result in results] == marks
    assert [len(alone.submits(mark)) for mark in marks] == [1] * 20
    assert "outbox.published_again" not in worker.text()
    assert alone.redis.zcard("{runpod}:outbox") == 0
    eventually(alone.open_jobs, [], within_s=60)


def test_a_call_that_was_lost_for_longer_than_the_window_is_not_submitted_any_more(alone: World) -> None:
    mark = uuid.uuid4().hex
    result = alone.endpoint("fast").delay(mark=mark)
    # As in a store restored from an old snapshot: the copy is there, and no message.
    alone.redis.delete(QUEUES.run)
    outbox = JobStore(alone.redis, "runpod").outbox
    [lane] = outbox.lanes()
    text = alone.redis.hget("{runpod}:outbox:messages", result.id)
    outbox.keep_message(result.id, time.time() - 3600, lane.text, text)
    alone.stack.worker("next", cwd=ROOT)
    with pytest.raises(Exception, match="not sent") as caught:
        result.get(timeout=60)
    assert type(caught.value).__name__ == "SubmissionUnconfirmed"
    assert len(alone.submits(mark)) == 0
    eventually(alone.open_jobs, [], within_s=60)


def test_a_cancel_whose_message_is_lost_is_carried_out(alone: World) -> None:
    mark = uuid.uuid4().hex
    worker = alone.stack.worker("dies", cwd=ROOT)
    result = alone.endpoint("slow").delay(mark=mark)
    eventually(lambda: result.state, "IN_PROGRESS")
    worker.kill(signal.SIGKILL)
    worker.process.wait()
    JobResult(result.id, app=app).cancel()
    alone.redis.delete(QUEUES.deliver)
    alone.stack.worker("next", cwd=ROOT)
    eventually(lambda: result.state, "REVOKED", within_s=60)
    eventually(lambda: [job["status"] for job in alone.jobs("slow")], ["CANCELLED"], within_s=60)
    eventually(lambda: alone.redis.zcard("runpod:cancel_wishes"), 0)
    eventually(alone.open_jobs, [], within_s=60)
