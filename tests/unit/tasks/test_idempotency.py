"""idempotency_key: calls with one key and the same input share one job, each with a continuation of its own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from celery_runpod._store.record import JobRecord
from celery_runpod._store.states import State
from celery_runpod.api import Job
from celery_runpod.errors import IdempotencyConflict, RateLimited, SubmissionUnconfirmed, Unavailable, decode
from celery_runpod.options import Options
from tasks.cancel import cancel_jobs
from tasks.check import Check
from tasks.idempotency import join
from tasks.run import _go_on
from tests.builders import ENDPOINT, Bench


def call(bench: Bench, task_id: str, key: str = "order-7", **changes: Any) -> JobRecord:
    """One call with a key, from acceptance on, and the check that follows."""
    options = changes.pop("options", Options(deadline=600.0, idempotency_key=key))
    job = bench.job(task_id, options=options, **changes)
    bench.store.ids.index(job, (), ())
    word, job, to_submit = join(bench.services, job, bench.now)
    if word == "accepted":
        _go_on(bench.services, job, to_submit, bench.now, "")
        bench.check()
    return bench.record(task_id)


def completed(bench: Bench, job_id: str = "r1", output: Any = "done") -> None:
    bench.runpod.says("status", Job(job_id, "COMPLETED", output=output))
    bench.check(after_s=2)


def test_two_calls_are_one_job_and_both_get_its_output() -> None:
    bench = Bench()
    call(bench, "a")
    call(bench, "b")
    assert bench.runpod.called("run") == 1
    assert {bench.record("a").state, bench.record("b").state} == {State.JOINED}
    completed(bench)
    for task_id in ("a", "b"):
        assert bench.record(task_id).state is State.COMPLETED
        assert bench.record(task_id).outcome["output"] == "done"
        assert bench.record(task_id).job_id == "r1"
    assert bench.count("runpod.deliver") == 2


def test_the_job_is_shown_on_every_call() -> None:
    bench = Bench()
    call(bench, "a")
    call(bench, "b")
    bench.shown.clear()
    bench.runpod.says("status", Job("r1", "IN_PROGRESS", output="half"))
    bench.check(after_s=2)
    assert {(task_id, state) for task_id, state, _ in bench.shown} == {("a", "IN_PROGRESS"), ("b", "IN_PROGRESS")}


def test_a_call_after_the_end_gets_the_outcome_and_pays_nothing() -> None:
    bench = Bench()
    call(bench, "a")
    completed(bench)
    bench.deliver("a")
    assert call(bench, "b").outcome["output"] == "done"
    assert bench.runpod.called("run") == 1


def test_a_process_that_dies_while_it_hands_over_loses_nobody() -> None:
    bench = Bench()
    first = call(bench, "a")
    call(bench, "b")
    (shared,) = bench.store.jobs(ENDPOINT, [first.joined])
    outcome = {"output": "done", "error": None}
    assert bench.store.record_outcome(shared, State.COMPLETED, outcome, bench.now, bench.now + 30) == "recorded"
    # Between the verdict and the hand-over a call comes: nobody would see it among those who wait.
    assert call(bench, "late").outcome["output"] == "done"
    bench.check(after_s=31)
    assert {bench.record(task_id).state for task_id in ("a", "b")} == {State.COMPLETED}


@pytest.mark.parametrize("state", ["FAILED", "TIMED_OUT", "CANCELLED"])
def test_what_failed_frees_the_key(state: str) -> None:
    bench = Bench()
    call(bench, "a")
    bench.runpod.says("status", Job("r1", state))
    bench.check(after_s=2)
    assert str(bench.record("a").state) == state
    call(bench, "b")
    assert bench.runpod.called("run") == 2
    completed(bench, "r2", output="second")
    assert bench.record("b").outcome["output"] == "second"


def test_a_submit_that_may_have_been_taken_keeps_the_key() -> None:
    bench = Bench()
    bench.runpod.says("run", Unavailable("reset", "run", ENDPOINT))
    call(bench, "a")
    bench.check(after_s=61)
    call(bench, "b")
    for task_id in ("a", "b"):
        error = decode(bench.record(task_id).outcome["error"])
        assert isinstance(error, SubmissionUnconfirmed)
        assert error.task_id == task_id
    assert bench.runpod.called("run") == 1


def test_another_input_under_the_key_is_a_conflict() -> None:
    bench = Bench()
    call(bench, "a")
    job = bench.job("b", options=Options(deadline=600.0, idempotency_key="order-7"), input={"a": 2})
    word, refused, to_submit = join(bench.services, job, bench.now + 10)
    assert (word, to_submit) == ("accepted", None)
    assert isinstance(decode(refused.outcome["error"]), IdempotencyConflict)
    assert bench.record("a").state is State.JOINED
    # The order of its fields does not make it another input.
    call(bench, "c", key="other", input={"x": 1, "y": 2})
    assert call(bench, "d", key="other", input={"y": 2, "x": 1}).state is State.JOINED


def test_another_key_or_endpoint_is_another_job() -> None:
    bench = Bench()
    call(bench, "a")
    call(bench, "b", key="order-8")
    assert bench.runpod.called("run") == 2


def test_one_call_cancelled_lets_the_others_wait_on_the_last_one_cancels_the_job() -> None:
    bench = Bench()
    call(bench, "a")
    call(bench, "b")
    cancel_jobs(bench.services, ["a"])
    bench.deliver("a")
    bench.check(after_s=1)
    assert (bench.runpod.called("cancel"), bench.record("b").state) == (0, State.JOINED)
    cancel_jobs(bench.services, ["b"])
    bench.deliver("b")
    bench.check(after_s=1)
    assert [one for one in bench.runpod.calls if one[0] == "cancel"] == [("cancel", ENDPOINT, "r1")]
    call(bench, "c")
    assert bench.runpod.called("run") == 2


def test_each_call_has_its_own_deadline() -> None:
    bench = Bench()
    call(bench, "short", options=Options(deadline=5.0, idempotency_key="k"))
    call(bench, "long", options=Options(deadline=600.0, idempotency_key="k"))
    bench.check(after_s=6)
    assert bench.record("short").state is State.ENDED_HERE
    bench.deliver("short")
    assert bench.record("long").state is State.JOINED
    completed(bench)
    assert bench.record("long").outcome["output"] == "done"


def test_a_repeated_message_changes_nothing() -> None:
    bench = Bench()
    call(bench, "a")
    before = bench.redis.hgetall(bench.store.keys.job(ENDPOINT, "a"))
    call(bench, "a")
    assert bench.redis.hgetall(bench.store.keys.job(ENDPOINT, "a")) == before
    assert bench.runpod.called("run") == 1


def test_the_key_and_its_outcome_go_when_results_go() -> None:
    bench = Bench()
    first = call(bench, "a")
    completed(bench)
    shared = bench.store.keys.job(ENDPOINT, first.joined)
    assert 0 < bench.redis.ttl(shared) <= 1800
    bench.redis.delete(shared)
    call(bench, "b")
    assert bench.runpod.called("run") == 2


def test_a_key_that_expires_while_it_is_joined_begins_a_new_job() -> None:
    bench = Bench()
    first = call(bench, "a")
    completed(bench)
    (key,) = bench.redis.scan_iter("*:key:*")
    read = bench.redis.hget

    def read_then_expire(name: str, field: str) -> Any:
        found = read(name, field)
        if name == key:
            bench.redis.delete(key)
        return found

    bench.redis.hget = read_then_expire
    assert call(bench, "b").joined not in ("", first.joined)
    assert bench.runpod.called("run") == 2


def slow_down(bench: Bench, retry_after_s: float) -> None:
    bench.runpod.says("run", RateLimited("slow down", "run", ENDPOINT, 429, retry_after_s=retry_after_s))


def checks(bench: Bench, seconds: int) -> None:
    for _ in range(seconds):
        bench.check(after_s=1)


def reason(bench: Bench, task_id: str) -> str:
    return str((bench.record(task_id).outcome or {}).get("reason"))


def test_expires_is_kept_and_nothing_is_sent_for_calls_that_have_all_expired() -> None:
    bench = Bench()
    slow_down(bench, 30)
    call(bench, "a", expires_at=bench.now + 5)
    call(bench, "b", expires_at=bench.now + 8)
    checks(bench, 6)
    assert (reason(bench, "a"), bench.record("b").state) == ("expired", State.JOINED)
    checks(bench, 60)
    assert (bench.record("b").state, reason(bench, "b")) == (State.CANCELLED, "expired")
    assert bench.runpod.called("run") == 1
    # The key is free again.
    assert call(bench, "c").state is State.JOINED
    assert bench.runpod.called("run") == 2


def test_one_call_expires_and_the_others_job_is_submitted_later() -> None:
    bench = Bench()
    slow_down(bench, 20)
    call(bench, "a", expires_at=bench.now + 5)
    call(bench, "b")
    checks(bench, 30)
    assert (reason(bench, "a"), bench.record("b").state, bench.runpod.called("run")) == ("expired", State.JOINED, 2)
    completed(bench, "r2")
    assert bench.record("b").outcome["output"] == "done"


def test_what_was_submitted_in_time_goes_on_for_all() -> None:
    bench = Bench()
    call(bench, "a", expires_at=bench.now + 5)
    call(bench, "b")
    checks(bench, 6)
    bench.runpod.says("status", Job("r1", "COMPLETED", output="done"))
    checks(bench, 10)
    assert {bench.record(one).state for one in ("a", "b")} == {State.COMPLETED}


def test_a_submit_under_way_when_a_call_expires_decides_for_it() -> None:
    for answer, ends in ((Unavailable("reset", "run", ENDPOINT), "None"), (None, "expired")):
        bench = Bench(RUNPOD_UNCONFIRMED_WINDOW_S="60")

        def post(answer: Any = answer, bench: Bench = bench) -> Any:
            bench.now += 10
            # Another worker's: the threads of this check are all at work.
            Check(replace(bench.services, pool=ThreadPoolExecutor(1)), ENDPOINT).run()
            assert bench.record("a").state is State.JOINED
            return answer or RateLimited("slow down", "run", ENDPOINT, 429)

        bench.runpod.says("run", post)
        call(bench, "a", expires_at=bench.now + 5)
        checks(bench, 65)
        assert reason(bench, "a") == ends
        assert bench.runpod.called("run") == 1


def test_the_call_that_joins_after_the_others_expired_keeps_the_job() -> None:
    bench = Bench()
    slow_down(bench, 30)
    call(bench, "a", expires_at=bench.now + 5)
    bench.now += 4
    call(bench, "b")
    checks(bench, 40)
    assert (reason(bench, "a"), bench.record("b").state, bench.runpod.called("run")) == ("expired", State.JOINED, 2)


def test_a_cancel_of_the_last_call_is_one_of_the_shared_job_at_once() -> None:
    bench = Bench()
    slow_down(bench, 10)
    call(bench, "a")
    cancel_jobs(bench.services, ["a"])
    # Its delivery may come later.
    checks(bench, 20)
    assert bench.runpod.called("run") == 1
