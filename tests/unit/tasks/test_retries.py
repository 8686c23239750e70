"""retries=n: a job that FAILED or TIMED_OUT is submitted again, each time as an attempt of its own."""

from __future__ import annotations

import pytest

from celery_runpod._store.states import State
from celery_runpod.api import Job
from celery_runpod.errors import JobFailed, decode
from celery_runpod.options import Options
from tasks.delivery import end_by_answer
from tests.builders import Bench

TWICE = Options(deadline=600.0, retries=2)


def failed(job_id: str) -> Job:
    return Job(job_id, "FAILED", error="no face")


@pytest.mark.parametrize("state", ["FAILED", "TIMED_OUT"])
def test_the_next_attempt_is_a_job_of_its_own_at_runpod(state: str) -> None:
    bench = Bench()
    bench.accepted(options=TWICE)
    bench.runpod.says("status", Job("r1", state))
    bench.check(after_s=2)
    assert (bench.record().state, bench.record().reason) == (State.WAITING, "RETRY")
    bench.check(after_s=2)
    found = bench.record()
    assert (found.state, found.job_id, found.attempt) == (State.IN_QUEUE, "r2", 2)
    assert found.input == {"a": 1}
    bench.runpod.says("status", Job("r2", "COMPLETED", output="done"))
    bench.check(after_s=2)
    assert bench.record().outcome is not None
    assert bench.record().outcome["output"] == "done"


def test_the_last_failure_is_the_callers() -> None:
    bench = Bench()
    bench.accepted(options=TWICE)
    for number in (1, 2, 3):
        bench.runpod.says("status", failed(f"r{number}"))
        bench.check(after_s=3)
        bench.check(after_s=3)
    assert bench.runpod.called("run") == 3
    found = bench.record()
    assert found.state is State.FAILED
    assert isinstance(decode(found.outcome["error"]), JobFailed)


def test_one_failure_told_twice_costs_one_retry_and_news_of_the_old_attempt_changes_nothing() -> None:
    bench = Bench()
    first = bench.accepted(options=TWICE)
    end_by_answer(bench.services, first, failed("r1"))
    end_by_answer(bench.services, first, failed("r1"))
    assert bench.record().retried == 1
    bench.check(after_s=3)
    assert bench.record().state is State.IN_QUEUE
    end_by_answer(bench.services, first, failed("r1"))
    assert (bench.record().state, bench.record().job_id) == (State.IN_QUEUE, "r2")


def test_a_retry_has_a_start_timeout_of_its_own_but_the_deadline_is_for_all() -> None:
    bench = Bench()
    first = bench.accepted(options=Options(deadline=60.0, retries=5, start_timeout=10.0))
    bench.now += 9
    end_by_answer(bench.services, first, failed("r1"))
    assert bench.record().start_by == bench.now + 1 + 10
    assert bench.record().end_by == first.end_by
    bench.check(after_s=2)
    bench.now = first.end_by - 0.5
    end_by_answer(bench.services, bench.record(), failed("r2"))
    assert bench.record().state is State.FAILED


def test_without_retries_a_failure_is_final() -> None:
    bench = Bench()
    bench.accepted()
    bench.runpod.says("status", failed("r1"))
    bench.check(after_s=2)
    assert bench.record().state is State.FAILED
    assert bench.runpod.called("run") == 1
