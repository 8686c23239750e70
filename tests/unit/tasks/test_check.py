"""What a check makes of RunPod's answers, of their absence, and of deadlines."""

from __future__ import annotations

import json
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from celery_runpod._store.states import State
from celery_runpod.api import Job
from celery_runpod.errors import (
    BadAnswer,
    DeadlineExceeded,
    JobNotFound,
    JobTimedOut,
    RateLimited,
    StartTimeout,
    SubmissionUnconfirmed,
    Unavailable,
    decode,
)
from celery_runpod.options import Options
from tasks.job_events import MOST_PROGRESS
from tasks.submit import KNOWN_HERE_S
from tests.builders import ENDPOINT, NOW, Bench

GONE = JobNotFound("job not found", "status", ENDPOINT, 404)


def error_of(bench: Bench) -> BaseException:
    return decode(bench.record().outcome["error"])


def test_while_polling_is_paused_a_start_timeout_ends_the_job_once_and_no_check_spins() -> None:
    bench = Bench()
    bench.accepted(options=Options(deadline=600.0, start_timeout=10.0))
    bench.runpod.says("status", RateLimited("slow down", "status", ENDPOINT, 429, retry_after_s=30.0))
    bench.check(after_s=2)
    assert bench.due() == pytest.approx(8)
    bench.check(after_s=9)
    assert isinstance(error_of(bench), StartTimeout)
    assert bench.runpod.called("status") == 1


def test_a_start_timeout_is_judged_after_a_last_look() -> None:
    bench = Bench()
    bench.accepted(options=Options(deadline=600.0, start_timeout=10.0))
    bench.runpod.says("status", Job("r1", "IN_PROGRESS"))
    bench.check(after_s=11)
    assert bench.record().state is State.IN_PROGRESS


@pytest.mark.parametrize("trouble", [Unavailable("reset", "status", ENDPOINT), RateLimited("429", "status", ENDPOINT)])
def test_no_word_from_runpod_is_no_word_on_the_job_until_its_deadline(trouble: Exception) -> None:
    bench = Bench()
    bench.accepted(options=Options(deadline=300.0))
    bench.runpod.script["status"] = [trouble] * 100
    for _ in range(20):
        bench.check(after_s=14)
    assert bench.record().state is State.IN_QUEUE
    bench.check(after_s=25)
    error = error_of(bench)
    assert isinstance(error, DeadlineExceeded)
    assert error.deadline_s == 300
    bench.check(after_s=1)
    assert bench.runpod.called("cancel") == 1


@pytest.mark.parametrize(
    "odd",
    [
        BadAnswer("the answer is longer than 64028672 bytes", "status", ENDPOINT, 200),
        Unavailable("the answer broke off: timed out", "status", ENDPOINT, 200),
    ],
    ids=["oversized", "cut"],
)
def test_an_answer_that_cannot_be_read_keeps_no_other_job_from_its_look(odd: Exception) -> None:
    bench = Bench()
    bench.accepted("t1")
    bench.runpod.script["status"] = [odd] * 10
    for _ in range(3):
        bench.check(after_s=max(bench.due("t1") or 0.0, 1.0))
    assert bench.store.pauses.paused_until(ENDPOINT, "status") is None
    assert bench.record("t1").state is State.IN_QUEUE and bench.record("t1").reason == "ANSWER_UNREADABLE"
    bench.runpod.script["status"] = []
    bench.accepted("t2")
    bench.runpod.says("status", Job("r2", "IN_PROGRESS"))
    bench.check(after_s=bench.due("t2") or 0.0)
    assert bench.record("t2").state is State.IN_PROGRESS


@pytest.mark.parametrize("answer", [GONE, Job("r1", "TIMED_OUT")])
def test_a_job_that_no_worker_took_in_its_time_to_live_timed_out_whatever_runpod_says(answer: object) -> None:
    bench = Bench()
    bench.accepted(options=Options(deadline=600.0, ttl=60.0, retries=1))
    bench.runpod.says("status", answer)
    bench.check(after_s=61)
    assert bench.record().reason == "RETRY"
    bench.check(after_s=2)
    bench.runpod.says("status", answer if isinstance(answer, Exception) else Job("r2", "TIMED_OUT"))
    bench.check(after_s=61)
    assert isinstance(error_of(bench), JobTimedOut)


def test_a_backoff_longer_than_runpod_keeps_a_result_is_cut() -> None:
    bench = Bench()
    bench.accepted(options=Options.parse({"deadline": 21600, "backoff": {"first": 3600, "cap": 3600, "jitter": 0}}))
    assert bench.due() == pytest.approx(900)


@pytest.mark.parametrize(
    ("sync", "asked_s", "paused_s", "loud"),
    [(False, 600.0, 660.0, False), (False, 3600.0, 990.0, True), (True, 30.0, 33.0, False), (True, 120.0, 132.0, True)],
)
def test_a_retry_after_that_outlasts_runpods_results_is_cut_and_loud(
    sync: bool, asked_s: float, paused_s: float, loud: bool, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench()
    bench.accepted(options=Options(deadline=21600.0, sync=sync))
    bench.runpod.says("status", RateLimited("429", "status", ENDPOINT, 429, retry_after_s=asked_s))
    bench.check(after_s=bench.due() or 0.0)
    assert (bench.record().reason, bench.store.pauses.paused_until(ENDPOINT, "status")) == (
        "RATE_LIMITED",
        pytest.approx(bench.now + paused_s),
    )
    lines = [line for line in caplog.records if line.levelname == "CRITICAL"]
    assert [line.getMessage().partition(":")[0] for line in lines] == ["looks.paused_past_retention"] * loud


def test_a_store_that_is_away_right_after_the_post_does_not_lose_the_jobs_id() -> None:
    bench = Bench()
    answered, failures = bench.store.submits.answered, [RedisConnectionError("away")] * 5

    def away_for_a_while(*args: object) -> tuple[str, str]:
        if failures:
            raise failures.pop()
        return answered(*args)  # type: ignore[arg-type]

    bench.store.submits.answered = away_for_a_while  # type: ignore[method-assign, assignment]
    job = bench.accepted()
    assert (job.state, job.job_id) == (State.IN_QUEUE, "r1")
    assert sum(bench.slept) == pytest.approx(5)


def test_a_store_that_stays_away_is_given_up_long_after_the_window() -> None:
    bench = Bench()

    def away(*_: object) -> str:
        raise RedisConnectionError("away")

    bench.store.submits.answered = away  # type: ignore[method-assign, assignment]
    with pytest.raises(RedisConnectionError):
        bench.accepted()
    assert 0 < bench.settings.unconfirmed_window_s + KNOWN_HERE_S - sum(bench.slept) < 10
    assert bench.record().state is State.SUBMITTING


def test_a_job_whose_id_becomes_known_after_its_window_is_cancelled() -> None:
    bench = Bench()
    answered = bench.store.submits.answered

    def away_until_the_window_is_over(*given: Any) -> Any:
        if bench.now <= NOW + bench.settings.unconfirmed_window_s:
            raise RedisConnectionError("away")
        bench.check()
        assert isinstance(error_of(bench), SubmissionUnconfirmed)
        return answered(*given)

    bench.store.submits.answered = away_until_the_window_is_over  # type: ignore[method-assign]
    bench.accepted()
    bench.check(after_s=1)
    assert [call for call in bench.runpod.calls if call[0] == "cancel"] == [("cancel", ENDPOINT, "r1")]


def test_a_look_reads_neither_input_nor_continuation_and_the_end_finds_its_way_all_the_same() -> None:
    """They may be megabytes, and a job is looked at many times."""
    bench = Bench()
    bench.accepted()
    record = bench.store.keys.job(ENDPOINT, "t1")
    continuation = bench.store.redis.hget(record, "continuation")
    bench.store.redis.hset(record, mapping={"input": "{not to be read", "continuation": "{nor this"})
    bench.runpod.says("status", Job("r1", "IN_PROGRESS"))
    bench.check(after_s=2)
    assert bench.store.redis.hget(record, "state") == State.IN_PROGRESS
    bench.store.redis.hset(record, mapping={"input": "{}", "continuation": continuation})
    bench.runpod.says("status", Job("r1", "COMPLETED", output=7))
    bench.check(after_s=30)
    assert bench.record().outcome["output"] == 7
    assert bench.count(bench.services.settings.queues.deliver) == 1


def test_a_job_that_is_retried_while_another_process_begins_to_look_at_it_keeps_its_input_and_its_pause() -> None:
    """A webhook made it due while one process looked at it. The other read it for a look, so without its input, and found
    a job to be submitted."""
    bench = Bench()
    bench.accepted(options=Options(deadline=600.0, retries=1))
    leased = bench.store.lease_due

    def then_fails(*given: Any, **more: Any) -> Any:
        found = leased(*given, **more)
        assert "t1" in found.looks
        bench.store.retry_later(bench.record(), State.FAILED, 1, bench.now + 20, None, "r1")
        return found

    bench.store.lease_due = then_fails  # type: ignore[method-assign]
    bench.check(after_s=2)
    bench.store.lease_due = leased  # type: ignore[method-assign]
    assert [call[0] for call in bench.runpod.calls] == ["run"]
    assert bench.due() == 20
    bench.check(after_s=21)
    assert bench.runpod.calls[-1] == ("run", ENDPOINT, {"a": 1})


def test_a_progress_beyond_the_bound_is_replaced_by_a_word_on_it() -> None:
    bench = Bench()
    bench.accepted()
    bench.runpod.says("status", Job("r1", "IN_PROGRESS", output={"preview": "x" * MOST_PROGRESS}))
    bench.check(after_s=2)
    assert json.loads(bench.record().progress) == {
        "left_out": f"a progress of {MOST_PROGRESS + 15} characters; at most {MOST_PROGRESS} are shown"
    }
