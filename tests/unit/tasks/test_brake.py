"""Pause and resume by hand, retries by hand that are counted, jobs without output, and what counts against the bounds."""

from __future__ import annotations

from typing import Any

import pytest

from celery_app.watchdog.endpoint_counts import EndpointCounts
from celery_app.watchdog.overdue_checks import heal
from celery_runpod._protocol import EVERY_ENDPOINT
from celery_runpod._publish import open_job_bounds
from celery_runpod._store.states import State
from celery_runpod.api import Job
from celery_runpod.errors import InvalidInput, OutputMissing, RetryRefused, TooManyOpenJobs, decode
from celery_runpod.options import Options
from config.profiles import Profile
from tasks.endpoint_tasks import pause, resume
from tests.builders import ENDPOINT, Bench
from tests.unit.tasks.test_purge_and_retry import failed, run_again

NO_OUTPUT = Job("r1", "COMPLETED", execution_s=2.0)


def ended_without_output(bench: Bench, answer: Job = NO_OUTPUT, **changes: Any) -> dict[str, Any]:
    bench.accepted(**changes)
    bench.runpod.says("status", answer)
    bench.check(after_s=2)
    outcome = bench.record().outcome
    assert outcome is not None
    return outcome


def test_completed_without_output_is_an_error_and_is_not_submitted_again() -> None:
    bench = Bench()
    outcome = ended_without_output(bench, options=Options(deadline=600.0, retries=3))
    error = decode(outcome["error"])
    assert isinstance(error, OutputMissing)
    assert (error.endpoint, error.task_id, error.job_id) == (ENDPOINT, "t1", "r1")
    assert "20 MB" in str(error)
    assert (bench.record().state, outcome["execution_s"]) == (State.ENDED_HERE, 2.0)
    assert bench.runpod.called("run") == 1
    bench.deliver()
    assert bench.record(run_again(bench)).input == {"a": 1}


def test_a_null_is_an_output() -> None:
    outcome = ended_without_output(Bench(), Job("r1", "COMPLETED", has_output=True))
    assert (outcome["output"], outcome["error"]) == (None, None)


def test_an_empty_output_can_be_allowed_by_the_call() -> None:
    outcome = ended_without_output(Bench(), options=Options(deadline=600.0, allow_empty_output=True))
    assert (outcome["output"], outcome["error"]) == (None, None)


def test_retries_by_hand_are_counted_and_only_force_goes_on() -> None:
    bench = Bench(RUNPOD_MOST_RETRIES_BY_HAND="2")
    failed(bench)
    task_id = "t1"
    for number in (1, 2):
        task_id = run_again(bench, task_id)
        assert bench.record(task_id).generation == number
        bench.check()
        bench.runpod.says("status", Job(f"r{number + 1}", "FAILED", error="again"))
        bench.check(after_s=2)
        bench.deliver(task_id)
    with pytest.raises(RetryRefused, match=r"2 times already.*RUNPOD_MOST_RETRIES_BY_HAND.*--force"):
        run_again(bench, task_id)
    forced = run_again(bench, task_id, force=True)
    assert bench.record(forced).generation == 3
    with pytest.raises(InvalidInput, match="force"):
        run_again(bench, task_id, force="yes")


def test_a_bound_of_none_refuses_the_first_retry_by_hand() -> None:
    bench = Bench(RUNPOD_MOST_RETRIES_BY_HAND="0")
    failed(bench)
    with pytest.raises(RetryRefused, match="0 times already"):
        run_again(bench)


@pytest.mark.parametrize("which", [ENDPOINT, "named", EVERY_ENDPOINT])
def test_on_hold_nothing_is_submitted_and_looks_go_on(which: str) -> None:
    bench = Bench({"named": Profile(ENDPOINT)})
    bench.accepted("running")
    since = bench.app.tasks[pause.name](which)
    bench.now += 5
    assert bench.app.tasks[pause.name](which) == since, "a repeat changes nothing"
    held = bench.accepted("held")
    assert (held.state, held.reason) == (State.WAITING, "ON_HOLD")
    bench.runpod.says("status", Job("r1", "COMPLETED", output=1))
    bench.check(after_s=30)
    assert bench.record("running").state is State.COMPLETED
    bench.check(after_s=300)
    assert bench.runpod.called("run") == 1
    assert bench.app.tasks[resume.name](which) is True
    assert float(bench.redis.hget(bench.store.keys.next_check_at(ENDPOINT), "at")) == bench.now
    bench.check()
    assert bench.record("held").job_id == "r2"


def test_a_pause_of_all_and_one_of_an_endpoint_are_two() -> None:
    bench = Bench()
    for which in (EVERY_ENDPOINT, ENDPOINT):
        bench.app.tasks[pause.name](which)
    held = bench.accepted("held")
    assert bench.app.tasks[resume.name](EVERY_ENDPOINT) is False
    bench.check(after_s=70)
    assert bench.record(held.task_id).reason == "ON_HOLD"
    assert bench.app.tasks[resume.name](ENDPOINT) is True


def test_what_waits_for_a_place_is_left_alone_while_it_is_on_hold() -> None:
    bench = Bench({ENDPOINT: Profile(ENDPOINT, max_in_flight=1)})
    bench.accepted("first")
    bench.accepted("second")
    bench.app.tasks[pause.name](ENDPOINT)
    bench.runpod.says("status", Job("r1", "COMPLETED", output=1))
    bench.redis.zrem(bench.store.keys.inflight(ENDPOINT), "first")
    before = bench.due("second")
    heal(bench.services)
    assert bench.due("second") == before


def test_a_job_on_hold_ends_at_its_deadline() -> None:
    bench = Bench()
    bench.app.tasks[pause.name](ENDPOINT)
    bench.accepted()
    bench.check(after_s=601)
    assert "ON_HOLD" in str(decode((bench.record().outcome or {})["error"]))


def counted(bench: Bench) -> tuple[int, int]:
    EndpointCounts(bench.services).count_some()
    totals = bench.store.open_jobs.totals()
    assert totals is not None
    return totals.jobs, totals.input_bytes


@pytest.mark.parametrize("end", ["COMPLETED", "FAILED", "CANCELLED", "cancel"])
def test_what_is_open_is_counted_and_leaves_nothing(end: str) -> None:
    bench = Bench()
    bench.accepted("t1", input={"text": "x" * 1000})
    bench.accepted("t2", input={"text": "y" * 1000})
    assert counted(bench) == (2, 2 * len('{"text": ""}') + 2000)
    if end == "cancel":
        bench.store.cancels.request_cancels(ENDPOINT, ["t1"], {"reason": "revoked"}, bench.now, bench.now)
    else:
        bench.runpod.says("status", Job("r1", end, output=1), Job("r2", "IN_QUEUE"))
        bench.check(after_s=2)
    bench.deliver("t1")
    assert counted(bench) == (1, len('{"text": ""}') + 1000)
    bench.store.cancels.request_cancels(ENDPOINT, ["t2"], {"reason": "revoked"}, bench.now, bench.now)
    bench.deliver("t2")
    assert counted(bench) == (0, 0)
    assert not bench.redis.exists(bench.store.keys.input_bytes(ENDPOINT))


def test_a_count_that_was_lost_is_right_again_when_nothing_is_open() -> None:
    bench = Bench()
    bench.redis.set(bench.store.keys.input_bytes(ENDPOINT), 5_000_000)
    bench.redis.zadd(bench.store.keys.endpoints(), {ENDPOINT: bench.now})
    assert counted(bench) == (0, 0)


@pytest.mark.parametrize(
    ("env", "outbox", "words"),
    [
        ({"RUNPOD_MOST_OPEN_JOBS": "1"}, 0, "1 open jobs, and at most 1"),
        ({"RUNPOD_MOST_OPEN_JOBS": "3"}, 2, "3 open jobs, and at most 3"),
        ({"RUNPOD_MOST_INPUT_BYTES": "1000000"}, 0, "1000012 bytes of input"),
        ({"RUNPOD_MOST_OPEN_JOBS": "2"}, 0, None),
    ],
)
def test_a_caller_is_refused_at_the_bound(
    monkeypatch: pytest.MonkeyPatch, env: dict[str, str], outbox: int, words: str | None
) -> None:
    bench = Bench(**env)
    monkeypatch.setattr(open_job_bounds, "store_of", lambda app: bench.store)
    open_job_bounds.refuse_over_bounds(bench.app)  # nobody has counted yet
    bench.accepted("t1", input={"text": "x" * 1_000_000})
    EndpointCounts(bench.services).count_some()
    for number in range(outbox):
        bench.store.outbox.keep_message(f"m{number}", bench.now, "{}", "{}")
    if words is None:
        open_job_bounds.refuse_over_bounds(bench.app)
        return
    with pytest.raises(TooManyOpenJobs, match=words):
        open_job_bounds.refuse_over_bounds(bench.app)
