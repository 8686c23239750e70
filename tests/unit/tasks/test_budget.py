"""One budget per endpoint and operation, shared by all who take from one store; without budget nothing is sent."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celery_runpod._simulator.request_rules import LIMITS
from celery_runpod._store.states import State
from celery_runpod._store.store import Begun
from celery_runpod.errors import RateLimited
from celery_runpod.options import Options
from tasks.budget import PER_WINDOW, WINDOW_S, Budget
from tasks.cancel import cancel_jobs
from tasks.order_of_looks import ask_budget
from tests.builders import ENDPOINT, Bench


@pytest.fixture
def bench() -> Bench:
    return Bench()


def spent(bench: Bench, operation: str) -> None:
    """Another process has taken all there is."""
    assert bench.services.budget.take(ENDPOINT, operation, PER_WINDOW[operation]) == PER_WINDOW[operation]


@pytest.mark.parametrize("operation", PER_WINDOW)
def test_two_processes_share_one_budget(bench: Bench, operation: str) -> None:
    most = PER_WINDOW[operation]
    one, other = (Budget(bench.store.scripts, lambda: bench.now) for _ in range(2))
    assert one.take(ENDPOINT, operation, most - 1) == most - 1
    assert other.take(ENDPOINT, operation, most) == 1
    assert [each.take(ENDPOINT, operation, 1) for each in (one, other)] == [0, 0]
    bench.now += 2 * WINDOW_S
    assert other.take(ENDPOINT, operation, most + 1) == most
    assert one.take(ENDPOINT, operation, most) == 0


def allowed(taken: list[tuple[float, int]], most: int) -> bool:
    """Whether no window, wherever it begins, has more calls."""
    return all(sum(calls for at, calls in taken if start <= at < start + WINDOW_S) <= most for start, _ in taken)


def test_calls_at_the_end_of_one_window_count_in_the_next(bench: Bench) -> None:
    """A count by fixed windows would grant half of the calls again after 5 s."""
    bench.services.budget.take(ENDPOINT, "status", 1)
    bench.now += 0.99 * WINDOW_S
    bench.services.budget.take(ENDPOINT, "status", PER_WINDOW["status"])
    bench.now += WINDOW_S / 2
    assert bench.services.budget.take(ENDPOINT, "status", PER_WINDOW["status"]) == 1


@given(calls=st.lists(st.tuples(st.floats(0, 12), st.integers(0, 60), st.integers(0, 9)), max_size=60))
@settings(deadline=None, max_examples=60)
def test_no_window_has_more_calls_than_runpod_allows(calls: list[tuple[float, int, int]]) -> None:
    bench, taken = Bench(), []
    for after_s, wanted, spare in calls:
        bench.now += after_s
        taken.append((bench.now, bench.services.budget.ask(ENDPOINT, "cancel", wanted, spare=spare).granted))
    assert allowed(taken, PER_WINDOW["cancel"])


def test_looks_that_wait_use_all_that_runpod_allows(bench: Bench) -> None:
    """30,000 running jobs, none near its deadline, are looked at within 150 s."""
    began, left = bench.now, 30_000
    while left:
        granted = ask_budget(bench.services, ENDPOINT, Begun(min(200, left), 0, 0, decisions=0, paused_until=None))
        left -= granted.looks
        bench.now = max(bench.now, granted.looks_from)
    assert bench.now - began <= 30_000 * WINDOW_S / PER_WINDOW["status"]


def test_looks_are_left_to_those_whose_deadline_is_near(bench: Bench) -> None:
    for number in range(5):
        bench.accepted(f"t{number}", options=Options(deadline=600.0 if number else 20.0))
    bench.now += 8
    begun = bench.store.begin_check(ENDPOINT, "token", bench.now, bench.now + 8, 200, 4)
    assert begun is not None and (begun.looks, begun.decisions) == (5, 0)
    bench.now += 3
    begun = bench.store.begin_check(ENDPOINT, "token", bench.now, bench.now + 8, 200, 4)
    assert begun is not None and (begun.looks, begun.decisions) == (5, 1)
    bench.services.budget.take(ENDPOINT, "status", PER_WINDOW["status"] - 3)
    assert ask_budget(bench.services, ENDPOINT, begun).looks == 2
    assert bench.services.budget.take(ENDPOINT, "status", 1) == 1


def test_a_clock_that_was_far_ahead_blocks_no_calls(bench: Bench) -> None:
    bench.now += 3600
    spent(bench, "status")
    bench.now -= 3600
    assert bench.services.budget.take(ENDPOINT, "status", 5) == 5


def test_no_budget_is_over_what_runpod_allows() -> None:
    assert {operation: LIMITS[operation][0] for operation in PER_WINDOW} == PER_WINDOW


def test_each_endpoint_and_operation_has_a_budget_of_its_own(bench: Bench) -> None:
    spent(bench, "run")
    take = bench.services.budget.take
    assert take(ENDPOINT, "run", 1) == 0
    assert (take("another", "run", 1), take(ENDPOINT, "status", 1)) == (1, 1)


def test_without_budget_a_job_waits_and_says_why(bench: Bench) -> None:
    spent(bench, "run")
    job = bench.accepted()
    assert (job.state, job.reason, bench.runpod.called("run")) == (State.WAITING, "BUDGET", 0)
    bench.check(after_s=2 * WINDOW_S)
    assert (bench.record().state, bench.runpod.called("run")) == (State.IN_QUEUE, 1)


def test_without_budget_no_job_is_looked_at_and_none_is_forgotten(bench: Bench) -> None:
    for number in range(3):
        bench.accepted(f"t{number}")
    assert bench.services.budget.take(ENDPOINT, "status", PER_WINDOW["status"] - 1)
    bench.check(after_s=2)
    assert bench.runpod.called("status") == 1
    bench.check(after_s=2 * WINDOW_S)
    assert bench.runpod.called("status") == 4


def test_without_budget_a_cancel_stays_owed(bench: Bench) -> None:
    bench.accepted()
    spent(bench, "cancel")
    cancel_jobs(bench.services, ["t1"])
    bench.check()
    assert bench.runpod.called("cancel") == 0
    bench.check(after_s=2 * WINDOW_S)
    assert bench.runpod.called("cancel") == 1


def test_without_budget_a_purge_is_refused(bench: Bench) -> None:
    spent(bench, "purge-queue")
    with pytest.raises(RateLimited):
        bench.app.tasks["runpod.purge_queue"](ENDPOINT)
    assert bench.runpod.called("purge-queue") == 0
