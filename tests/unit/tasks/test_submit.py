"""What each answer to POST /run means: the table of tasks/submit.py, row by row."""

from __future__ import annotations

from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from celery_runpod._store.states import State
from celery_runpod.api import Job
from celery_runpod.errors import (
    BadAnswer,
    ConfigurationError,
    EndpointNotFound,
    JobFailed,
    PayloadTooLarge,
    RateLimited,
    RequestRejected,
    SubmissionUnconfirmed,
    Unauthorized,
    Unavailable,
    decode,
)
from celery_runpod.options import Options
from tasks.delivery import end_by_answer
from tests.builders import ENDPOINT, Bench

NOT_SENT = [
    Unavailable("no connection: refused", "run", ENDPOINT, sent=False),
    RateLimited("slow down", "run", ENDPOINT, 429),
    RateLimited("slow down", "run", ENDPOINT, 429, retry_after_s=7.0),
]
REFUSED = [
    RequestRejected("bad policy", "run", ENDPOINT, 400),
    Unauthorized("wrong key", "run", ENDPOINT, 401),
    EndpointNotFound("endpoint not found", "run", ENDPOINT, 404),
    PayloadTooLarge("too much", ENDPOINT),
    ConfigurationError("no RunPod API key"),
]
UNKNOWN = [
    Unavailable("502", "run", ENDPOINT, 502),
    Unavailable("reset", "run", ENDPOINT),
    BadAnswer("the answer has no job id", "run", ENDPOINT, 200),
]


def name(error: Exception) -> str:
    return f"{type(error).__name__}-{getattr(error, 'status', '')}-{getattr(error, 'retry_after_s', '')}"


@pytest.mark.parametrize("error", NOT_SENT, ids=name)
def test_what_runpod_does_not_have_is_sent_again_later(error: Exception) -> None:
    bench = Bench()
    bench.runpod.says("run", error)
    job = bench.accepted()
    assert job.state is State.WAITING
    assert job.reason in ("API_DOWN", "RATE_LIMITED")
    assert bench.store.pauses.paused_until(ENDPOINT, "run") is not None
    assert bench.store.pauses.paused_until(ENDPOINT, "status") is None
    bench.check(after_s=getattr(error, "retry_after_s", None) or 3.0)
    bench.check(after_s=3.0)
    assert (bench.record().state, bench.record().attempt) == (State.IN_QUEUE, 2)
    assert bench.runpod.called("run") == 2


def test_while_submits_are_paused_no_job_of_the_endpoint_is_sent_and_the_pauses_double() -> None:
    bench = Bench()
    bench.runpod.script["run"] = [RateLimited("slow down", "run", ENDPOINT, 429)] * 100
    bench.accepted("t1")
    bench.accepted("t2")
    assert bench.record("t2").reason == "PAUSED"
    for _ in range(300):
        bench.check(after_s=1.0)
    # 1, 2, 4, ... 60 s: a handful in five minutes, where each job would have asked 300 times.
    assert bench.runpod.called("run") < 15


@pytest.mark.parametrize("error", REFUSED, ids=name)
def test_what_runpod_refuses_ends_with_its_error(error: Exception) -> None:
    bench = Bench()
    bench.runpod.says("run", error)
    job = bench.accepted()
    assert job.state is State.ENDED_HERE
    found = decode(job.outcome["error"])
    assert type(found) is type(error)
    assert getattr(found, "task_id", "t1") == "t1"
    assert bench.count("runpod.deliver") == 1


@pytest.mark.parametrize("error", UNKNOWN, ids=name)
def test_what_may_have_been_taken_is_never_sent_again(error: Exception) -> None:
    bench = Bench()
    bench.runpod.says("run", error)
    job = bench.accepted()
    assert (job.state, job.reason) == (State.SUBMITTING, "UNCONFIRMED")
    for _ in range(6):
        bench.check(after_s=10.5)
    assert isinstance(decode(bench.record().outcome["error"]), SubmissionUnconfirmed)
    assert bench.runpod.called("run") == 1


@pytest.mark.parametrize("error", UNKNOWN, ids=name)
def test_with_resubmit_it_is_sent_again_once_the_window_is_over(error: Exception) -> None:
    bench = Bench(RUNPOD_UNCONFIRMED_SUBMIT="resubmit")
    bench.runpod.says("run", error)
    bench.accepted()
    bench.check(after_s=30)
    assert bench.runpod.called("run") == 1
    bench.check(after_s=31)
    bench.check(after_s=2)
    assert (bench.record().state, bench.record().attempt) == (State.IN_QUEUE, 2)


@pytest.mark.parametrize("policy", ["fail", "wait"])
def test_a_refused_key_ends_jobs_or_lets_them_wait(policy: str) -> None:
    bench = Bench(RUNPOD_ON_UNAUTHORIZED=policy)
    bench.runpod.says("run", Unauthorized("wrong key", "run", ENDPOINT, 401))
    job = bench.accepted()
    if policy == "fail":
        assert isinstance(decode(job.outcome["error"]), Unauthorized)
        return
    assert (job.state, job.reason) == (State.WAITING, "UNAUTHORIZED")
    bench.check(after_s=61)
    assert bench.record().state is State.IN_QUEUE


def test_a_public_endpoint_that_fails_at_once_is_a_failed_job() -> None:
    """docs.runpod.io: public endpoints answer 400 with a FAILED body; the REST client gives the job."""
    bench = Bench()
    bench.runpod.says("run", Job("r1", "FAILED", error="prompt is too long"))
    job = bench.accepted()
    assert job.state is State.FAILED
    assert isinstance(decode(job.outcome["error"]), JobFailed)


def test_a_sync_submit_that_comes_back_finished_needs_no_look() -> None:
    bench = Bench()
    bench.runpod.says("runsync", Job("sync-1", "COMPLETED", output="done"))
    job = bench.accepted(options=Options(deadline=600.0, sync=True))
    assert job.outcome is not None
    assert job.outcome["output"] == "done"
    assert bench.runpod.called("status") == 0


def test_a_lost_answer_to_runsync_is_an_unknown_submit_too() -> None:
    bench = Bench()
    bench.runpod.says("runsync", Unavailable("read timeout", "runsync", ENDPOINT))
    job = bench.accepted(options=Options(deadline=600.0, sync=True))
    assert (job.state, job.reason) == (State.SUBMITTING, "UNCONFIRMED")


def test_news_that_come_while_the_post_flies_win_and_its_job_is_cancelled() -> None:
    bench = Bench()

    def cancelled_meanwhile() -> Any:
        bench.store.cancels.request_cancels(ENDPOINT, ["t1"], {"reason": "revoked"}, bench.now, bench.now + 30)
        return Job("r1", "IN_QUEUE")

    bench.runpod.says("run", cancelled_meanwhile)
    assert bench.accepted().state is State.CANCELLED
    bench.check(after_s=1)
    assert ("cancel", ENDPOINT, "r1") in bench.runpod.calls


@pytest.mark.parametrize("options", [{"start_timeout": 20.0}, {"deadline": 20.0}], ids=str)
def test_an_unanswered_submit_is_told_as_one_whatever_else_runs_out_first(options: dict[str, float]) -> None:
    """Any other verdict would free its idempotency key, and say of a job that may run that nobody took it."""
    bench = Bench()
    bench.runpod.says("run", Unavailable("reset", "run", ENDPOINT))
    bench.accepted(options=Options(**{"deadline": 600.0, **options}))
    for _ in range(8):
        bench.check(after_s=10)
    assert isinstance(decode(bench.record().outcome["error"]), SubmissionUnconfirmed)
    assert bench.runpod.called("run") == 1


def test_a_job_whose_start_timeout_passes_while_it_is_unconfirmed_is_still_adopted() -> None:
    bench = Bench()
    bench.runpod.says("run", Unavailable("reset", "run", ENDPOINT))
    bench.accepted(options=Options(deadline=600.0, start_timeout=20.0))
    bench.check(after_s=21)
    assert bench.due() == pytest.approx(39)
    bench.store.hint(ENDPOINT, "t1", 1, bench.now, "r-from-webhook")
    bench.runpod.says("status", Job("r-from-webhook", "COMPLETED", output="paid for"))
    bench.check(after_s=1)
    assert bench.record().outcome["output"] == "paid for"


def test_a_sync_output_is_written_down_also_when_the_store_was_away() -> None:
    bench = Bench()
    record, failures = bench.store.record_outcome, [RedisConnectionError("away")] * 3

    def away_for_a_while(*args: Any, **kwargs: Any) -> str:
        if failures:
            raise failures.pop()
        return record(*args, **kwargs)

    bench.store.record_outcome = away_for_a_while  # type: ignore[method-assign]
    bench.runpod.says("runsync", Job("sync-1", "COMPLETED", output="paid for"))
    job = bench.accepted(options=Options(deadline=600.0, sync=True))
    assert job.outcome is not None
    assert job.outcome["output"] == "paid for"


def test_a_slow_check_does_not_send_again_what_has_its_verdict() -> None:
    bench = Bench(RUNPOD_UNCONFIRMED_SUBMIT="resubmit")
    bench.runpod.says("run", Unavailable("reset", "run", ENDPOINT))
    stale = bench.accepted()
    end_by_answer(bench.services, stale, Job("r1", "FAILED", error="no face"))
    assert bench.store.submits.not_submitted(stale, bench.now, "RESUBMIT") == "refused"
    assert bench.record().state is State.FAILED


def test_expires_is_for_the_first_submit_not_for_a_retry() -> None:
    bench = Bench()
    job = bench.accepted(options=Options(deadline=600.0, retries=1), expires_at=bench.now + 30)
    bench.now += 60
    end_by_answer(bench.services, job, Job("r1", "FAILED", error="no face"))
    bench.check(after_s=2)
    assert (bench.record().state, bench.runpod.called("run")) == (State.IN_QUEUE, 2)
