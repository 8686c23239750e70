"""What no worker can run or read is kept, bounded, and stops nobody."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from celery_runpod._store import put_aside as aside
from celery_runpod._store.open_jobs import Count
from celery_runpod._store.put_aside import AsideMessage
from celery_runpod._store.states import State
from tests.builders import ENDPOINT, Bench

BROKEN = {
    "a state of another version": ("state", "FANCY"),
    "an option of another version": ("options", '{"turbo": true}'),
    "broken JSON": ("options", "{"),
    "a number that is none": ("end_by", "soon"),
    "bytes that are no text": ("options", b'{"labels": ["\xff"]}'),
}


def counted(bench: Bench) -> Count:
    return bench.store.open_jobs.count([ENDPOINT])[ENDPOINT]


def message(number: int = 1, **changes: Any) -> AsideMessage:
    made = AsideMessage(f"message-{number}", "runpod.run", "e1", "runpod", float(number), "why", 2, "{}", {}, {})
    return replace(made, **changes)


@pytest.mark.parametrize("how", BROKEN)
def test_a_bad_record_is_put_aside_and_its_neighbour_is_looked_at(how: str) -> None:
    bench = Bench()
    bench.accepted("bad"), bench.accepted("good")
    bench.redis.hset(bench.store.keys.job(ENDPOINT, "bad"), *BROKEN[how])
    bench.check(2.0)
    assert [call for call in bench.runpod.calls if call[0] == "status"] == [("status", ENDPOINT, "r2")]
    assert bench.due("bad") is None and bench.due("good") is not None
    [kept] = bench.store.aside.records_aside()
    assert (kept.task_id, kept.endpoint) == ("bad", ENDPOINT) and kept.why
    assert bench.store.aside.count_aside() == (0, 1)


@pytest.mark.parametrize("continuation", ["x", "[" * 5_000 + "]" * 5_000], ids=["no JSON", "too deep"])
def test_nobody_pays_for_a_job_whose_outcome_could_not_be_handed_over(continuation: str) -> None:
    bench = Bench()
    job = bench.job("bad", continuation=continuation)
    bench.store.ids.index(job, (), ())
    assert bench.store.accept(job, bench.now) == "accepted"
    bench.check(2.0)
    assert bench.runpod.called("run") == 0
    assert [kept.task_id for kept in bench.store.aside.records_aside()] == ["bad"]


def test_nobody_pays_for_a_job_whose_record_has_lost_its_continuation() -> None:
    bench = Bench()
    job = bench.job("bad")
    assert bench.store.accept(job, bench.now) == "accepted"
    bench.store.ids.index(job, (), ())
    bench.redis.hdel(bench.store.keys.job(ENDPOINT, "bad"), "continuation")
    bench.check(2.0)
    assert bench.runpod.called("run") == 0
    [kept] = bench.store.aside.records_aside()
    assert (kept.task_id, kept.why) == ("bad", "ValueError: it lacks continuation")


def test_a_worker_that_can_read_it_takes_it_back_once_a_minute() -> None:
    bench = Bench()
    bench.accepted("bad")
    key = bench.store.keys.job(ENDPOINT, "bad")
    bench.redis.hset(key, "state", "FANCY")
    assert bench.store.jobs(ENDPOINT, ["bad"]) == []
    assert bench.store.aside.take_back_readable(ENDPOINT, bench.now) == []
    bench.redis.hset(key, "state", State.IN_QUEUE)
    assert bench.store.aside.take_back_readable(ENDPOINT, bench.now) == []
    bench.redis.delete(bench.store.keys.aside_looked(ENDPOINT))  # the minute is over
    assert bench.store.aside.take_back_readable(ENDPOINT, bench.now) == ["bad"]
    assert bench.due("bad") == 0 and bench.record("bad").state is State.IN_QUEUE
    assert bench.store.aside.count_aside() == (0, 0)


def test_an_outcome_that_cannot_be_read_returns_to_the_undelivered() -> None:
    bench = Bench()
    job = bench.accepted("bad")
    bench.store.record_outcome(job, State.COMPLETED, {"output": 1}, bench.now, bench.now + 30)
    bench.redis.hset(bench.store.keys.job(ENDPOINT, "bad"), "outcome", "{")
    assert bench.store.jobs(ENDPOINT, ["bad"]) == []
    assert bench.store.outstanding(ENDPOINT, bench.now + 60).undelivered == []
    assert bench.store.aside.take_record_back(ENDPOINT, "bad", bench.now)
    assert bench.store.outstanding(ENDPOINT, bench.now + 60).undelivered == ["bad"]


def test_a_verdict_of_a_state_that_this_version_does_not_know_is_put_aside() -> None:
    bench = Bench()
    job = bench.accepted("bad")
    bench.store.record_outcome(job, State.COMPLETED, {"output": 1}, bench.now, bench.now + 30)
    bench.redis.hset(bench.store.keys.job(ENDPOINT, "bad"), "state", "FANCY")
    bench.check(60.0)
    assert [kept.task_id for kept in bench.store.aside.records_aside()] == ["bad"]
    assert bench.store.aside.take_record_back(ENDPOINT, "bad", bench.now)
    assert bench.store.outstanding(ENDPOINT, bench.now + 60).undelivered == ["bad"]


def test_a_dropped_record_leaves_a_cancel_and_nothing_else() -> None:
    bench = Bench()
    bench.accepted("bad")
    bench.redis.hset(bench.store.keys.job(ENDPOINT, "bad"), "state", "FANCY")
    assert bench.store.jobs(ENDPOINT, ["bad"]) == []
    assert bench.store.aside.drop_record(ENDPOINT, "bad", bench.now)
    assert not bench.store.aside.drop_record(ENDPOINT, "bad", bench.now)
    assert bench.redis.zrange(bench.store.keys.cancels(ENDPOINT), 0, -1) == ["r1"]
    assert not bench.redis.exists(bench.store.keys.job(ENDPOINT, "bad"))
    assert counted(bench) == Count(0, 0, 0, idle=False), "its input is not counted any more"


def test_what_is_put_aside_is_counted_until_it_is_dropped() -> None:
    bench = Bench()
    bench.accepted("bad"), bench.accepted("good")
    both = counted(bench)
    bench.redis.hset(bench.store.keys.job(ENDPOINT, "bad"), "state", "FANCY")
    assert bench.store.jobs(ENDPOINT, ["bad"]) == []
    assert counted(bench) == replace(both, aside=1)
    assert bench.store.aside.drop_record(ENDPOINT, "bad", bench.now)
    assert counted(bench) == Count(1, both.input_bytes // 2, 0, idle=False)


def test_a_bad_record_does_not_stay_first_of_those_that_wait_to_be_submitted() -> None:
    """After trouble the first of them tries, and the others wait for it."""
    bench = Bench()
    bench.store.holds.hold(ENDPOINT, bench.now)
    bench.accepted("bad"), bench.accepted("good")
    waiting = bench.store.keys.waiting(ENDPOINT)
    assert bench.redis.zrange(waiting, 0, -1) == ["bad", "good"]
    bench.redis.hset(bench.store.keys.job(ENDPOINT, "bad"), "options", "{")
    assert bench.store.jobs(ENDPOINT, ["bad"]) == []
    assert bench.redis.zrange(waiting, 0, -1) == ["good"]


def test_the_oldest_message_makes_room(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    monkeypatch.setattr(aside, "MOST_MESSAGES", 3)
    for number in range(5):
        bench.store.aside.put_message_aside(message(number))
    assert [one.id for one in bench.store.aside.messages_aside()] == ["message-2", "message-3", "message-4"]
    assert "aside.dropped" in caplog.text
    monkeypatch.setattr(aside, "MOST_BYTES", 1_000)
    bench.store.aside.put_message_aside(message(9, body="x" * 900, size=900))
    assert [one.id for one in bench.store.aside.messages_aside()] == ["message-9"]


def test_of_a_large_message_the_head_is_kept() -> None:
    bench = Bench()
    bench.store.aside.put_message_aside(message(body="x" * 2_000_000, size=2_000_000))
    [kept] = bench.store.aside.messages_aside()
    assert len(kept.body) == aside.MOST_BODY and kept.size == 2_000_000 and not kept.whole


def test_the_size_of_what_is_taken_is_given_back() -> None:
    bench = Bench()
    for _ in range(3):
        bench.store.aside.put_message_aside(message())
    assert bench.store.aside.take_message("message-1") and not bench.store.aside.take_message("message-1")
    assert not list(bench.redis.scan_iter("{runpod}:aside*"))
