"""A job with `sync=True`: accepting it and checking its endpoint wait for nothing; one message submits it, once."""

from __future__ import annotations

import pytest

from celery_runpod._protocol import SUBMIT_SYNC
from celery_runpod._store.states import State
from celery_runpod.api import Job
from celery_runpod.options import Options
from tasks.submit_sync import MESSAGE_S
from tests.builders import ENDPOINT, Bench
from tests.unit.tasks.test_run import run

SYNC = Options(deadline=600.0, sync=True)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def submits(bench: Bench) -> list[tuple[object, ...]]:
    """Take the messages that wait in the queue of calls; the arguments of those that submit."""
    taken = []
    with bench.app.connection_for_read() as connection, connection.SimpleQueue("runpod") as queue:
        while queue.qsize():
            message = queue.get_nowait()
            message.ack()
            assert message.headers["task"] == SUBMIT_SYNC
            taken.append(tuple(message.payload[0]))
    return taken


def submit(bench: Bench, message: tuple[object, ...]) -> None:
    bench.app.tasks[SUBMIT_SYNC](*message)


def test_accepting_makes_no_call_and_one_message_does(bench: Bench) -> None:
    bench.runpod.says("runsync", Job("sync-1", "COMPLETED", output="done"))
    run(bench, {"a": 1}, arguments={"options": {"sync": True}})
    assert bench.runpod.calls == []
    [message] = submits(bench)
    submit(bench, message)
    # Delivered too, without a message.
    assert bench.app.backend.get_task_meta("t1")["result"] == "done"
    assert bench.count("runpod.deliver") == 0


def test_a_message_that_comes_twice_submits_once(bench: Bench) -> None:
    run(bench, {"a": 1}, arguments={"options": {"sync": True}})
    [message] = submits(bench)
    submit(bench, message)
    submit(bench, message)
    assert bench.runpod.called("runsync") == 1


def test_a_check_makes_no_held_call_and_publishes_a_message_that_was_lost(bench: Bench) -> None:
    run(bench, {"a": 1}, arguments={"options": {"sync": True}})
    submits(bench)
    bench.check(after_s=1)
    assert submits(bench) == []
    bench.check(after_s=MESSAGE_S)
    [message] = submits(bench)
    assert bench.runpod.calls == []
    bench.check(after_s=1)
    assert submits(bench) == []
    submit(bench, message)
    assert bench.runpod.called("runsync") == 1


def test_the_first_of_two_messages_submits(bench: Bench) -> None:
    """No slot was free for longer than a message is waited for: each message that follows is younger, and none may be
    dropped in favour of one that is not there yet."""
    run(bench, {"a": 1}, arguments={"options": {"sync": True}})
    [first] = submits(bench)
    bench.check(after_s=MESSAGE_S + 1)
    [second] = submits(bench)
    submit(bench, first)
    submit(bench, second)
    assert bench.runpod.called("runsync") == 1 and bench.record().state is State.IN_QUEUE


def test_a_call_with_a_countdown_is_published_when_it_is_due(bench: Bench) -> None:
    run(bench, {"a": 1}, arguments={"options": {"sync": True}, "not_before": bench.now + 20})
    assert submits(bench) == []
    bench.check(after_s=20)
    [message] = submits(bench)
    assert message[:2] == (ENDPOINT, "t1")


def test_where_others_wait_for_a_place_it_waits_in_its_turn(bench: Bench) -> None:
    bench.redis.zadd(bench.store.keys.waiting(ENDPOINT), {"another": 0})
    bench.redis.hset(bench.store.keys.pause(ENDPOINT, "run"), "why", "MAX_IN_FLIGHT")
    run(bench, {"a": 1}, arguments={"options": {"sync": True}})
    assert submits(bench) == []
    bench.redis.zrem(bench.store.keys.waiting(ENDPOINT), "another")
    bench.check(after_s=1)
    assert len(submits(bench)) == 1


def test_a_job_that_has_ended_meanwhile_is_not_submitted(bench: Bench) -> None:
    run(bench, {"a": 1}, arguments={"options": {"sync": True}})
    [message] = submits(bench)
    bench.store.cancels.request_cancels(ENDPOINT, ["t1"], {"reason": "revoked"}, bench.now, bench.now + 30)
    submit(bench, message)
    submit(bench, (ENDPOINT, "nobody", bench.now))
    assert bench.runpod.calls == []


def test_messages_do_not_pile_up_where_no_slot_is_free(bench: Bench) -> None:
    run(bench, {"a": 1}, arguments={"options": {"sync": True, "deadline": 7200.0}})
    for _ in range(360):
        bench.check(after_s=10)
    assert bench.count(bench.services.settings.queues.run) <= 12, "in an hour"
