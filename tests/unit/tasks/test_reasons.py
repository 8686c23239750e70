"""Why a job waits in RunPod's queue: one look at /health for all, only when it waits, and in the StartTimeout's text."""

from __future__ import annotations

import pytest

from celery_runpod._store.states import State
from celery_runpod.api import Health, Job
from celery_runpod.errors import ConfigurationError, RequestRejected, Unauthorized, Unavailable, decode
from celery_runpod.options import Options
from tasks.why_queued import reason_of
from tests.builders import ENDPOINT, Bench


@pytest.mark.parametrize(
    ("health", "reason"),
    [
        (Health(in_queue=1, initializing=1), "COLD_START"),
        (Health(in_queue=1, initializing=1, throttled=2), "COLD_START"),
        (Health(in_queue=1, throttled=2), "NO_CAPACITY"),
        (Health(in_queue=1), "NO_CAPACITY"),
        (Health(in_queue=9, running=1, throttled=2), "NO_CAPACITY"),
        (Health(in_queue=1, unhealthy=1), "WORKERS_UNHEALTHY"),
        (Health(in_queue=1, unhealthy=1, initializing=1), "WORKERS_UNHEALTHY"),
        (Health(in_queue=1, unhealthy=1, running=1), ""),
        (Health(in_queue=1, running=3), ""),
        (Health(in_queue=1, idle=1, throttled=1), ""),
    ],
    ids=str,
)
def test_what_workers_tell(health: Health, reason: str) -> None:
    assert reason_of(health) == reason


def test_a_job_that_has_just_been_queued_asks_nothing() -> None:
    bench = Bench()
    bench.accepted()
    bench.check(after_s=1)
    assert (bench.runpod.called("health"), bench.record().reason) == (0, "")


@pytest.mark.parametrize("answer", [Job("r1", "COMPLETED", output=1), Job("r1", "IN_PROGRESS")], ids=str)
def test_a_job_that_has_begun_or_ended_meanwhile_asks_nothing(answer: Job) -> None:
    """As where a webhook has come: /health would only delay the look."""
    bench = Bench()
    bench.accepted()
    bench.runpod.says("status", answer)
    bench.check(after_s=60)
    assert bench.runpod.called("health") == 0


def test_a_look_that_ends_its_job_does_not_read_what_plans_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    bench.accepted()
    read: list[str] = []
    monkeypatch.setattr(bench.store.runpod_queue, "learned", lambda *_: read.append("learned"))
    monkeypatch.setattr(bench.store.watches, "among", lambda *_: read.append("watched"))
    bench.runpod.says("status", Job("r1", "COMPLETED", output=1))
    bench.check(after_s=60)
    assert (bench.record().state, read) == (State.COMPLETED, [])


def test_one_look_serves_all_jobs_of_an_endpoint_for_some_seconds_and_the_reason_goes_when_it_runs() -> None:
    bench = Bench()
    for number in range(5):
        bench.accepted(f"t{number}")
    bench.runpod.says("health", Health(in_queue=5, initializing=1), Health(in_queue=5, throttled=1))
    bench.check(after_s=5)
    assert {bench.record(f"t{number}").reason for number in range(5)} == {"COLD_START"}
    assert ("t0", State.IN_QUEUE, "COLD_START") in [
        (one, state, news.get("reason")) for one, state, news in bench.shown
    ]
    bench.check(after_s=8)
    assert bench.runpod.called("health") == 1
    bench.check(after_s=12)
    assert bench.runpod.called("health") == 2
    assert bench.record("t1").reason == "NO_CAPACITY"
    bench.runpod.script["status"] = [Job("r1", "IN_PROGRESS")] * 5
    bench.check(after_s=30)
    assert bench.record("t1").reason == ""


def test_a_start_timeout_says_why() -> None:
    bench = Bench()
    bench.accepted(options=Options(deadline=600.0, start_timeout=2.0))
    bench.runpod.says("health", Health(in_queue=1, throttled=3))
    bench.check(after_s=2.5)
    assert "within 2 s (NO_CAPACITY)" in str(decode(bench.record().outcome["error"]))


def test_a_verdict_does_not_wait_for_health_where_status_did_not_answer() -> None:
    """A job whose look failed, and one that was not looked at because looks are paused."""
    bench = Bench()
    bench.accepted(options=Options(deadline=60.0, start_timeout=20.0))
    bench.runpod.script["status"] = [Unavailable("away", "status", ENDPOINT)] * 99
    for _ in range(20):
        bench.check(after_s=3)
    assert bench.record().state is State.ENDED_HERE
    assert bench.runpod.called("health") == 0


def test_a_look_that_fails_is_no_reason_and_is_not_repeated_at_once() -> None:
    bench = Bench()
    bench.accepted()
    bench.runpod.says("health", Unavailable("reset", "health", ENDPOINT))
    bench.check(after_s=5)
    bench.check(after_s=5)
    assert (bench.runpod.called("health"), bench.record().reason) == (1, "")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Unauthorized("no", "status", ENDPOINT, 401), "UNAUTHORIZED"),
        (ConfigurationError("no RunPod API key: set RUNPOD_API_KEY_BLUE"), "UNAUTHORIZED"),
        (RequestRejected("no", "status", ENDPOINT, 400), "API_REFUSES"),
    ],
)
def test_a_key_that_is_refused_or_gone_ends_no_job_that_runs(error: Exception, reason: str) -> None:
    bench = Bench()
    bench.accepted(options=Options(deadline=60.0))
    bench.runpod.script["status"] = [error] * 20
    bench.check(after_s=2)
    assert (bench.record().state, bench.record().reason) == (State.IN_QUEUE, reason)
    bench.check(after_s=60)
    assert reason in str(decode(bench.record().outcome["error"]))


def test_how_many_are_in_progress_says_when_the_last_in_the_queue_is_looked_at() -> None:
    """No look has seen one in progress; /health counts ten."""
    bench = Bench()
    bench.redis.rpush(bench.store.keys.lengths(ENDPOINT), *[10.0] * 50)
    for number in range(20):
        bench.accepted(f"t{number:02}")
        bench.now += 0.01
    bench.runpod.says("health", Health(in_queue=10, running=10, in_progress=10))
    bench.check(after_s=100)
    # Nine are between it and the ten: 9 s for each round of ten, and its own 10 s.
    assert bench.due("t19") == pytest.approx(0.75 * 9 + 10)
    assert bench.due("t05") == pytest.approx(10)
