"""What becomes of calls whose queue was purged, and the command that cancels what waits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import chain

from celery_runpod import JobResult
from tests.application import same
from tests.commands import in_process
from tests.servers import ROOT, World
from tests.waiting import eventually

WAIT_S = 60


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Servers and no worker."""
    with World(tmp_path) as world:
        yield world
        eventually(world.open_jobs, [], within_s=60)


def cancel_what_waits(world: World, *endpoint: str) -> int:
    done = in_process("purge", "--calls", "--yes", "--json", *endpoint, env={"REDIS_URL": world.redis_url})
    assert done.returncode == 0, done.stderr
    return int(json.loads(done.stdout)["cancelled"])


def test_a_purged_queue_is_published_again_and_the_log_names_the_command(world: World) -> None:
    results = [world.endpoint("fast").delay(n=n) for n in range(20)]
    world.app().control.purge()  # of its default queue
    with world.app().connection_for_write() as connection:
        assert connection.default_channel.queue_purge("runpod") == 20
    worker = world.stack.worker(cwd=ROOT)
    assert [result.get(timeout=WAIT_S) for result in results] == [{"n": n} for n in range(20)]
    assert "celery-runpod purge --calls" in worker.text()


@pytest.mark.parametrize("purged", [False, True])
def test_calls_that_wait_are_cancelled_and_none_is_submitted(world: World, purged: bool) -> None:
    fast = world.endpoint("fast")
    ids = [fast.delay(n=n).id for n in range(20)]
    last = chain(fast.s(a=1), same.s()).delay()
    if purged:
        world.redis.delete("runpod")
    assert cancel_what_waits(world) == 21
    world.stack.worker(cwd=ROOT)
    world.stack.application("tests.application", cwd=ROOT)
    for task_id in (*ids, last.id, last.parent.id):
        eventually(lambda task_id=task_id: JobResult(task_id, app=world.app()).state, "REVOKED", within_s=60)
    assert world.jobs() == []


def test_those_of_one_endpoint(world: World) -> None:
    theirs, other = world.endpoint("fast").delay(n=1), world.endpoint("nobody").delay(n=2)
    assert cancel_what_waits(world, "fast") == 1
    world.stack.worker(cwd=ROOT)
    eventually(lambda: theirs.state, "REVOKED", within_s=60)
    eventually(lambda: other.state, "FAILURE", within_s=60)
    assert world.jobs() == []


def test_a_publish_that_failed_leaves_no_copy_and_never_runs(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from celery_runpod.errors import BrokerUnavailable

    def lost(*_: object, **__: object) -> None:
        raise OSError("Timeout reading from socket")

    with monkeypatch.context() as patch:
        patch.setattr("celery.app.amqp.Producer.publish", lost)
        for call in (world.endpoint("fast").delay, lambda: chain(world.endpoint("fast").s(a=1), same.s()).delay()):
            with pytest.raises(BrokerUnavailable) as caught:
                call()
            assert caught.value.unconfirmed
    assert world.redis.keys("{runpod}:outbox*") == []
    repeated = world.endpoint("fast").apply_async(({"a": 1},), task_id=caught.value.task_id)
    world.stack.worker(cwd=ROOT)
    assert repeated.get(timeout=WAIT_S) == {"a": 1}
    assert len(world.jobs()) == 1


def test_a_call_that_was_accepted_before_its_copy_is_written_leaves_none(world: World) -> None:
    world.stack.worker(cwd=ROOT)
    results = [world.endpoint("fast").delay(n=n) for n in range(50)]
    assert [result.get(timeout=WAIT_S) for result in results] == [{"n": n} for n in range(50)]
    eventually(lambda: world.redis.keys("{runpod}:outbox*"), [])
