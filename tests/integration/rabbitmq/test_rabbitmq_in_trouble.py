"""RabbitMQ that is killed, short of memory or without a queue, and workers that are gone: no call is lost for it."""

from __future__ import annotations

import signal
import time
import uuid
from collections import Counter

import pytest
from celery import chord, group
from celery.exceptions import TaskRevokedError

from celery_runpod._store.store import JobStore
from celery_runpod.errors import BrokerUnavailable
from tests.application import collect, note
from tests.integration.rabbitmq.conftest import HTTP_THREADS, WAIT_S, no_worker
from tests.servers import World, forget_connections
from tests.waiting import eventually


def test_a_killed_worker_in_the_middle_of_a_group(world: World) -> None:
    two = world.endpoint("two")
    key = uuid.uuid4().hex
    result = group(two.s(n=n).set(link=note.s(key)) for n in range(50)).delay()
    eventually(lambda: len(world.jobs("two")) >= 20, True, within_s=WAIT_S)
    worker = next(server for server in world.stack.servers if server.name.startswith("runpod"))
    worker.kill(signal.SIGKILL)
    with no_worker(world):
        pass
    ended = [child.get(timeout=240, propagate=False) for child in result.results]
    submitted = Counter(job["input"]["n"] for job in world.jobs("two"))
    assert max(submitted.values()) == 1
    for n, end in enumerate(ended):
        # A worker killed between the intent and RunPod's answer cannot know whether it was taken.
        assert end == {"n": n} or type(end).__name__ == "SubmissionUnconfirmed", end
    # A worker of two processes runs one check at a time, and a check submits so many side by side.
    assert sum(end != {"n": n} for n, end in enumerate(ended)) <= HTTP_THREADS
    came = {f"{{'n': {n}}}" for n, end in enumerate(ended) if end == {"n": n}}
    eventually(lambda: set(world.redis.lrange(key, 0, -1)), came, within_s=WAIT_S)


def test_rabbitmq_killed_and_started_again(world: World) -> None:
    two = world.endpoint("two")
    sent = [two.delay(again=n) for n in range(20)]
    world.rabbit.kill()
    world.rabbit.start()
    forget_connections()
    for n, result in enumerate(sent):
        assert result.get(timeout=240) == {"again": n}
    submitted = Counter(job["input"]["again"] for job in world.jobs("two") if "again" in job["input"])
    assert submitted == Counter(range(20))
    assert world.endpoint("fast").delay(after=1).get(timeout=WAIT_S) == {"after": 1}


def test_calls_that_expire_in_their_queue_end(world: World) -> None:
    """RabbitMQ would throw their messages away, and what hangs on them would never end."""
    fast = world.endpoint("fast")
    with no_worker(world):
        single = fast.apply_async(({"expired": 1},), expires=1)
        body = chord([fast.s(expired=2).set(expires=1), fast.s(a=1)], collect.s()).delay()
        expired_at = time.time() + 1.5
        eventually(lambda: time.time() > expired_at, True)
    with pytest.raises(TaskRevokedError):
        single.get(timeout=WAIT_S)
    eventually(lambda: body.state, "FAILURE", within_s=WAIT_S)
    assert not any("expired" in job["input"] for job in world.jobs("fast"))


def test_a_cancel_of_a_call_in_its_queue_leaves_its_siblings_alone(world: World) -> None:
    slow = world.endpoint("slow")
    root = str(uuid.uuid4())
    running = slow.apply_async(({"sibling": 1},), root_id=root)
    eventually(lambda: running.state, "IN_PROGRESS", within_s=WAIT_S)
    with no_worker(world):
        queued = slow.apply_async(({"sibling": 2},), root_id=root)
        queued.cancel()
    eventually(lambda: queued.state, "REVOKED", within_s=WAIT_S)
    # What the cancel did besides has been done by then.
    world.endpoint("fast").delay(a=1).get(timeout=WAIT_S)
    assert running.state == "IN_PROGRESS"
    running.cancel()
    eventually(lambda: running.state, "REVOKED", within_s=WAIT_S)


def test_a_worker_goes_on_while_rabbitmq_is_short_of_memory(world: World) -> None:
    """Although jobs end meanwhile, and what follows them cannot be published."""
    fast, two = world.endpoint("fast"), world.endpoint("two")
    sent = [two.delay(memory=n) for n in range(10)]
    eventually(lambda: sum("memory" in job["input"] for job in world.jobs("two")), 10, within_s=30)
    worker = next(server for server in world.stack.servers if server.name.startswith("runpod"))
    worker.kill(signal.SIGSTOP)
    sent += [fast.delay(memory=n) for n in range(10, 100)]
    with world.rabbit.short_of_memory():
        worker.kill(signal.SIGCONT)
        # They are accepted. RabbitMQ takes no check, so they are submitted when it is well.
        accepted = JobStore(world.redis, world.namespace)
        eventually(lambda: accepted.open_jobs.count(["fast"])["fast"].jobs, 90, within_s=30)
        with pytest.raises(BrokerUnavailable, match="short of memory or disk") as raised:
            fast.delay(a=1)
        assert raised.value.unconfirmed
    assert [result.get(timeout=WAIT_S) for result in sent] == [{"memory": n} for n in range(100)]


def test_a_queue_that_was_deleted_is_made_again_by_the_next_call(world: World) -> None:
    """As the docs say for a queue with wrong arguments, while a web process that has declared it lives on."""
    fast = world.endpoint("fast")
    assert fast.delay(before=1).get(timeout=WAIT_S) == {"before": 1}
    with no_worker(world):
        world.rabbit.delete("runpod")
        result = fast.delay(after=1)
        assert world.rabbit.waiting("runpod") == 1
    assert result.get(timeout=WAIT_S) == {"after": 1}
