"""What a 404 about a job means: one ends nothing."""

from __future__ import annotations

import pytest

from celery_runpod._store.states import State
from celery_runpod.api import Job
from celery_runpod.errors import EndpointNotFound, JobExpired, JobNotFound, JobPurged, JobTimedOut, Unavailable, decode
from celery_runpod.options import Options
from tests.builders import ENDPOINT, Bench

GONE = JobNotFound("job not found", "status", ENDPOINT, 404)
LOST = EndpointNotFound("endpoint not found", "status", ENDPOINT, 404)
RUNS = Job("r1", "IN_PROGRESS")


def error_of(bench: Bench) -> BaseException:
    return decode(bench.record().outcome["error"])


@pytest.fixture
def bench() -> Bench:
    made = Bench()
    made.accepted()
    return made


def test_a_404_right_after_the_submit_is_not_believed(bench: Bench) -> None:
    bench.runpod.script["status"] = [GONE] * 3
    for _ in range(3):
        bench.check(after_s=6)
    assert (bench.record().state, bench.record().missing_since) == (State.IN_QUEUE, None)


def test_the_second_404_some_seconds_later_ends_the_job_and_its_cancel_is_owed(bench: Bench) -> None:
    bench.runpod.script["status"] = [GONE] * 5
    bench.check(after_s=80)
    assert (bench.record().state, bench.record().reason) == (State.IN_QUEUE, "JOB_NOT_FOUND")
    assert bench.due() == pytest.approx(5)
    bench.store.look_now(ENDPOINT, ["t1"], bench.now)
    bench.check(after_s=1)  # a hint: too soon after the first
    assert bench.record().state is State.IN_QUEUE
    bench.check(after_s=4)
    assert isinstance(error_of(bench), JobExpired)
    bench.check()
    assert bench.runpod.called("cancel") == 1


@pytest.mark.parametrize("between", [RUNS, Unavailable("reset", "status", ENDPOINT)], ids=["answer", "no answer"])
def test_another_answer_in_between_begins_the_count_anew(bench: Bench, between: object) -> None:
    bench.runpod.says("status", GONE, between, GONE, Job("r1", "COMPLETED", has_output=True))
    for _ in range(3):
        bench.check(after_s=80)
        assert not bench.record().ended
    bench.check(after_s=80)
    assert bench.record().state is State.COMPLETED


def test_a_404_about_a_former_attempt_does_not_count() -> None:
    bench = Bench()
    bench.accepted(options=Options(deadline=6000.0, retries=1))
    bench.runpod.says("status", GONE, Job("r1", "FAILED", error="x"), GONE)
    bench.check(after_s=80)
    bench.check(after_s=5)
    assert bench.record().reason == "RETRY"
    bench.check(after_s=2)
    bench.check(after_s=40)
    assert bench.record().state is State.IN_QUEUE


def test_an_endpoint_that_is_not_found_is_trouble_for_a_minute(bench: Bench) -> None:
    bench.runpod.script["status"] = [LOST] * 50
    bench.check(after_s=80)
    pauses = []
    while not bench.record().ended:
        assert bench.record().reason == "ENDPOINT_NOT_FOUND"
        pauses.append(bench.due() or 0.0)
        bench.check(after_s=pauses[-1])
    assert isinstance(error_of(bench), JobExpired)
    assert sum(pauses) == pytest.approx(60)
    assert min(pauses) > 1
    assert ("t1", State.IN_QUEUE, {"reason": "ENDPOINT_NOT_FOUND"}) in bench.shown
    bench.check()
    assert bench.runpod.called("cancel") == 1


def test_an_endpoint_that_is_found_again_has_lost_no_job(bench: Bench) -> None:
    bench.runpod.says("status", LOST, LOST, LOST, RUNS)
    for _ in range(4):
        bench.check(after_s=19)
    assert (bench.record().state, bench.record().reason) == (State.IN_PROGRESS, "")


def test_a_404_of_the_endpoint_is_not_the_first_of_the_job(bench: Bench) -> None:
    bench.runpod.says("status", LOST, GONE, RUNS)
    bench.check(after_s=80)
    bench.check(after_s=20)
    assert bench.record().state is State.IN_QUEUE
    bench.check(after_s=5)
    assert bench.record().state is State.IN_PROGRESS


def test_where_the_reason_is_certain_one_404_is_enough(bench: Bench) -> None:
    bench.store.purges.note_purge(ENDPOINT, bench.now + 1)
    bench.runpod.says("status", GONE)
    bench.check(after_s=2)
    assert isinstance(error_of(bench), JobPurged)
    other = Bench()
    other.accepted(options=Options(deadline=600.0, ttl=60.0))
    other.runpod.says("status", GONE)
    other.check(after_s=61)
    assert isinstance(error_of(other), JobTimedOut)


@pytest.mark.parametrize("purged", [True, False])
def test_a_404_of_the_endpoint_is_no_proof_of_a_purge_or_of_a_time_to_live_that_is_over(purged: bool) -> None:
    bench = Bench()
    bench.accepted(options=Options(deadline=600.0, ttl=60.0))
    if purged:
        bench.store.purges.note_purge(ENDPOINT, bench.now + 1)
    bench.runpod.says("status", LOST)
    bench.check(after_s=61)
    assert bench.record().state is State.IN_QUEUE


def test_a_404_at_the_deadline_is_looked_at_once_more() -> None:
    bench = Bench()
    bench.accepted(options=Options(deadline=60.0))
    bench.runpod.says("status", GONE, Job("r1", "COMPLETED", has_output=True))
    bench.check(after_s=60)
    assert bench.due() == pytest.approx(5)
    bench.check(after_s=5)
    assert bench.record().state is State.COMPLETED
