"""One budget per endpoint and operation, shared by all who take from one store; without budget nothing is sent."""

from __future__ import annotations

import pytest
from limits.storage import MemoryStorage

from celery_runpod._simulator.request_rules import LIMITS
from celery_runpod._store.states import State
from celery_runpod.errors import RateLimited
from tasks.budget import PER_WINDOW, SPARED, WINDOW_S, Budget
from tasks.cancel import cancel_jobs
from tests.builders import ENDPOINT, Bench, timed_bench


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A bench whose budget is counted by its own clock."""
    return timed_bench(monkeypatch)


def spent(bench: Bench, operation: str) -> None:
    """Another process has taken all there is."""
    assert bench.services.budget.take(ENDPOINT, operation, PER_WINDOW[operation]) == PER_WINDOW[operation]


@pytest.mark.parametrize("operation", PER_WINDOW)
def test_two_processes_share_one_budget(bench: Bench, operation: str) -> None:
    storage, most = MemoryStorage(), PER_WINDOW[operation]
    one, other = Budget(storage, "runpod"), Budget(storage, "runpod")
    assert one.take(ENDPOINT, operation, most - 1) == most - 1
    assert other.take(ENDPOINT, operation, most) == 1
    assert [each.take(ENDPOINT, operation, 1) for each in (one, other)] == [0, 0]
    bench.now += 2 * WINDOW_S
    assert other.take(ENDPOINT, operation, most + 1) == most
    assert one.take(ENDPOINT, operation, most) == 0


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
    spared = PER_WINDOW["status"] // SPARED
    assert bench.services.budget.take(ENDPOINT, "status", PER_WINDOW["status"] - spared - 1)
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
