"""A verdict of our own on a job at RunPod comes after a last look, which goes before all other looks."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celery_runpod._store.states import State
from celery_runpod._store.store import Begun
from celery_runpod.api import Job
from celery_runpod.errors import BadAnswer, DeadlineExceeded, RateLimited, StartTimeout, Unavailable, decode
from celery_runpod.options import Backoff, Options
from tasks.budget import PER_WINDOW, SPARED, WINDOW_S
from tasks.idempotency import join
from tasks.order_of_looks import ask_budget
from tasks.submit import submit
from tests.builders import ENDPOINT, NOW, Bench

DONE = Job("r1", "COMPLETED", output={"a": 1})
RUNS = Job("r1", "IN_PROGRESS")


def error_of(bench: Bench, task_id: str = "t1") -> BaseException:
    return decode(bench.record(task_id).outcome["error"])


def runs_until(bench: Bench, ends_at: float, starts_at: float = 0.0) -> None:
    """RunPod takes the job at `starts_at` and has its result from `ends_at` on (seconds after NOW)."""

    def status(endpoint: str, job_id: str, **_: Any) -> Job:
        bench.runpod.calls.append(("status", bench.now - NOW))
        at = bench.now - NOW
        if at >= ends_at:
            return Job(job_id, "COMPLETED", output={"a": 1})
        return Job(job_id, "IN_PROGRESS" if at >= starts_at else "IN_QUEUE")

    bench.runpod.status = status  # type: ignore[method-assign]


def end(bench: Bench, task_id: str = "t1", late_s: float = 0.0) -> float:
    """Let each check come when it is due, or a little later, until the job has ended. Answers when that was."""
    for _ in range(500):
        due = bench.due(task_id)
        if due is None:
            return bench.now - NOW
        bench.check(after_s=max(0.0, due) + late_s)
    raise AssertionError("no end")


def test_a_job_that_finished_before_its_deadline_has_its_result() -> None:
    bench = Bench()
    runs_until(bench, 50)
    bench.accepted(options=Options(deadline=60.0))
    end(bench)
    assert bench.record().state is State.COMPLETED


def test_the_last_look_begins_at_the_deadline_and_none_comes_just_before_it() -> None:
    bench = Bench()
    runs_until(bench, 1000)
    bench.accepted(options=Options(deadline=60.0, backoff=Backoff(first=59.5, cap=59.5, jitter=0.0)))
    end(bench)
    assert isinstance(error_of(bench), DeadlineExceeded)
    assert [call[1] for call in bench.runpod.calls if call[0] == "status"] == [59.5, 60]
    # The first look is planned by the submit; every later one here.
    other = Bench()
    runs_until(other, 1000)
    other.accepted(options=Options(deadline=60.0, backoff=Backoff(first=29.75, factor=1.0, cap=29.75, jitter=0.0)))
    end(other)
    assert [call[1] for call in other.runpod.calls if call[0] == "status"] == [29.75, 60]


@given(
    deadline=st.floats(5, 2000),
    took=st.floats(0, 1),
    first=st.floats(0.3, 1),
    factor=st.floats(1, 4),
    longest=st.floats(0.1, 1.5),
    start_timeout=st.none() | st.floats(1, 2000),
    taken=st.floats(0, 1),
    sync=st.booleans(),
    late_s=st.floats(0, 40),
)
@settings(max_examples=25, deadline=None)
def test_a_job_that_ends_in_time_never_exceeds_its_deadline_nor_one_that_starts_in_time_its_start_timeout(
    deadline: float,
    took: float,
    first: float,
    factor: float,
    longest: float,
    start_timeout: float | None,
    taken: float,
    sync: bool,
    late_s: float,
) -> None:
    bench = Bench()
    cap_s = longest * deadline  # few looks: each costs the test some milliseconds
    backoff = Backoff(first=first * cap_s, factor=factor, cap=cap_s, jitter=0.1)
    start_by = deadline if start_timeout is None else min(start_timeout, deadline)
    # In time is before the limit by more than the rounding of a clock that counts from 1970.
    starts_at = min(start_by * taken, start_by - 0.001)
    runs_until(bench, max(min(deadline * took, deadline - 0.001), starts_at), starts_at)
    bench.accepted(options=Options(deadline=deadline, backoff=backoff, start_timeout=start_timeout, sync=sync))
    ended_at = end(bench, late_s=late_s)
    assert bench.record().state is State.COMPLETED
    assert ended_at <= deadline + late_s + 1e-6


def test_a_worker_that_was_down_over_the_deadline_looks_before_it_judges() -> None:
    bench = Bench()
    runs_until(bench, 50)
    bench.accepted(options=Options(deadline=60.0))
    bench.check(after_s=2)
    bench.check(after_s=3600)
    assert bench.record().state is State.COMPLETED


def test_both_limits_passed_with_one_look_the_deadline_counts() -> None:
    bench = Bench()
    runs_until(bench, 1000)
    bench.accepted(options=Options(deadline=60.0, start_timeout=10.0))
    bench.check(after_s=100)
    assert isinstance(error_of(bench), DeadlineExceeded)
    assert bench.runpod.called("status") == 1


def test_what_a_runpod_worker_has_taken_met_its_start_timeout_also_when_it_is_queued_again() -> None:
    bench = Bench()
    bench.accepted(options=Options(deadline=600.0, start_timeout=10.0))
    bench.runpod.says("status", RUNS, Job("r1", "IN_QUEUE"), DONE)
    bench.check(after_s=2)
    bench.check(after_s=20)
    bench.check(after_s=40)
    assert bench.record().state is State.COMPLETED


def test_a_look_that_began_before_the_deadline_is_not_the_last_one() -> None:
    bench = Bench()
    bench.accepted(options=Options(deadline=60.0))

    def slowly() -> Job:
        bench.now += 8
        return RUNS

    bench.runpod.says("status", slowly, DONE)
    bench.check(after_s=55)
    assert bench.record().state is State.IN_PROGRESS
    bench.check()
    assert bench.record().state is State.COMPLETED


@pytest.mark.parametrize(
    "lost", [Unavailable("reset", "status", ENDPOINT), BadAnswer("no JSON", "status", ENDPOINT)], ids=["cut", "garbled"]
)
def test_one_answer_lost_at_the_deadline_throws_no_result_away(lost: Exception) -> None:
    bench = Bench()
    bench.accepted(options=Options(deadline=60.0))
    bench.runpod.says("status", lost, DONE)
    bench.check(after_s=60)
    assert end(bench) <= 60 + bench.settings.poll_timeout_s
    assert bench.record().state is State.COMPLETED


@pytest.mark.parametrize("down_s", [0.0, 30.0, 3600.0])
def test_a_status_api_that_is_down_holds_a_verdict_up_for_the_time_of_one_look(down_s: float) -> None:
    bench = Bench()
    bench.accepted(options=Options(deadline=60.0))
    bench.runpod.script["status"] = [Unavailable("reset", "status", ENDPOINT)] * 100
    bench.check(after_s=60 + down_s)
    ended_at = end(bench)
    assert isinstance(error_of(bench), DeadlineExceeded)
    assert ended_at <= 60 + max(down_s, bench.settings.poll_timeout_s)
    bench.check(after_s=1)
    assert bench.runpod.called("cancel") == 1


def test_a_pause_longer_than_one_look_holds_up_no_verdict() -> None:
    bench = Bench()
    bench.accepted(options=Options(deadline=60.0))
    bench.accepted("t2", options=Options(deadline=20.0))
    bench.runpod.says("status", RateLimited("slow down", "status", ENDPOINT, 429, retry_after_s=30.0))
    bench.check(after_s=5)
    bench.check(after_s=15)
    assert isinstance(error_of(bench, "t2"), DeadlineExceeded)
    assert bench.record("t1").state is State.IN_QUEUE
    assert bench.runpod.called("status") == 2


# Before all other looks


def asked(bench: Bench) -> list[str]:
    return [call[2] for call in bench.runpod.calls if call[0] == "status"]


def test_last_looks_come_first_then_the_oldest_due() -> None:
    bench = Bench()
    bench.accepted("late", options=Options(deadline=100.0, backoff=Backoff(first=100.0, cap=100.0)))
    for number, first_s in enumerate((30.0, 10.0, 20.0)):
        # The one that is due last has the earliest deadline.
        options = Options(deadline=500.0 - first_s, backoff=Backoff(first=first_s, cap=30.0, jitter=0.0))
        bench.accepted(f"t{number}", options=options)
    bench.check(after_s=100)
    assert asked(bench) == ["r1", "r3", "r4", "r2"]


def test_what_the_budget_does_not_grant_goes_first_at_the_next_check() -> None:
    bench = Bench()
    most = PER_WINDOW["status"]
    for number in range(3):
        bench.accepted(f"t{number}", options=Options(deadline=600.0 - number, backoff=Backoff(first=2.0, cap=2.0)))
    bench.services.budget.take(ENDPOINT, "status", most - 2)
    bench.check(after_s=3)
    assert asked(bench) == ["r1", "r2"]
    # The look that was not granted is not touched.
    assert bench.due("t2") == pytest.approx(-1)
    bench.runpod.calls.clear()
    bench.check(after_s=2 * WINDOW_S)
    assert asked(bench)[0] == "r3"


def test_other_looks_leave_some_of_the_budget_to_last_ones() -> None:
    bench = Bench()
    budget = bench.services.budget
    most, spared = PER_WINDOW["status"], PER_WINDOW["status"] // SPARED
    assert budget.ask(ENDPOINT, "status", most, spare=spared).granted == most - spared
    assert budget.ask(ENDPOINT, "status", 5, spare=spared).granted == 0
    assert budget.take(ENDPOINT, "status", most) == spared


def test_every_verdict_comes_within_its_turn_beside_more_looks_than_the_budget_allows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench()
    monkeypatch.setitem(PER_WINDOW, "status", 100)  # 10 a second
    runs_until(bench, 55)
    for number in range(60):
        bench.accepted(f"d{number}", options=Options(deadline=60.0, backoff=Backoff(first=100.0, cap=100.0)))
    bench.now += 55
    ended = 0
    while ended < 60:
        # Another check has more to look at than there is budget for.
        ask_budget(bench.services, ENDPOINT, Begun(200, 0, 0, decisions=60 - ended, paused_until=None))
        bench.check(after_s=1)
        ended = sum(bench.record(f"d{number}").state is State.COMPLETED for number in range(60))
        assert bench.now <= NOW + 60 + 60 / 10 + bench.settings.poll_timeout_s


def test_no_check_spins_while_a_verdict_waits_for_the_budget() -> None:
    bench = Bench()
    bench.accepted(options=Options(deadline=20.0))
    bench.now += 20
    bench.services.budget.take(ENDPOINT, "status", PER_WINDOW["status"])
    bench.check()
    assert bench.record().state is State.IN_QUEUE
    due = bench.due()
    assert due is not None and due >= 1


# Calls that share a job


def shared(bench: Bench, deadline: float) -> None:
    call = bench.job(f"t{deadline:g}", options=Options(deadline=deadline, idempotency_key="k"))
    bench.store.ids.index(call, (), ())
    _, _, job = join(bench.services, call, bench.now)
    if job is not None:
        submit(bench.services, job, bench.now)


@pytest.mark.parametrize("ends_at", [50, 70])
def test_a_call_that_shares_a_job_has_its_last_look_at_that_job(ends_at: float) -> None:
    bench = Bench()
    runs_until(bench, ends_at)
    shared(bench, 1000.0)
    shared(bench, 60.0)
    end(bench, "t60")
    if ends_at < 60:
        assert bench.record("t60").state is bench.record("t1000").state is State.COMPLETED
    else:
        assert isinstance(error_of(bench, "t60"), DeadlineExceeded)
        assert bench.runpod.called("cancel") == 0
        end(bench, "t1000")
        assert bench.record("t1000").state is State.COMPLETED


def test_a_start_timeout_says_so_after_its_last_look() -> None:
    bench = Bench()
    bench.accepted(options=Options(deadline=600.0, start_timeout=10.0))
    end(bench)
    assert isinstance(error_of(bench), StartTimeout)
    assert bench.now == NOW + 10
