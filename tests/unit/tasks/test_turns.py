"""Whose turn it is: Celery's priority, then the time of the call; what has no turn yet is not read."""

from __future__ import annotations

from typing import Any

import pytest
from celery.app.trace import build_tracer

from celery_app.watchdog.endpoint_counts import EndpointCounts
from celery_app.watchdog.overdue_checks import heal
from celery_runpod._protocol import RUN
from celery_runpod._store.states import State
from celery_runpod.api import Job
from celery_runpod.options import Backoff, Options
from config.profiles import Profile
from tasks.budget import PER_WINDOW, WINDOW_S
from tasks.cancel import cancel_jobs
from tests.builders import ENDPOINT, Bench


def call(bench: Bench, task_id: str, priority: Any = None, **request: Any) -> None:
    """Let a worker's child take the message of a call; no check follows."""
    tracer = build_tracer(RUN, bench.app.tasks[RUN], app=bench.app)
    request = {"id": task_id, "root_id": task_id, "delivery_info": {"priority": priority}, **request}
    tracer(task_id, ({"a": 1},), {"endpoint": ENDPOINT, "format": 1}, request=request)
    bench.now += 0.01


def one_place() -> Bench:
    return Bench(profiles={ENDPOINT: Profile(ENDPOINT, max_in_flight=1)})


def submitted(bench: Bench, task_ids: list[str]) -> list[str]:
    return [task_id for task_id in task_ids if bench.record(task_id).state is not State.WAITING]


def read_by_a_check(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The task ids whose records the next checks read."""
    found: list[str] = []
    read = bench.store.jobs

    def jobs(endpoint: str, task_ids: Any, light: Any = ()) -> Any:
        found.extend([*task_ids, *light])
        return read(endpoint, task_ids, light)

    monkeypatch.setattr(bench.store, "jobs", jobs)
    return found


def test_a_call_of_priority_9_overtakes_all_that_wait() -> None:
    bench = one_place()
    waiting = [f"t{number}" for number in range(50)]
    for task_id in waiting:
        call(bench, task_id)
    bench.check()
    call(bench, "third", priority=3)
    call(bench, "first", priority=9)
    call(bench, "second", priority=9)
    order = []
    for _ in range(4):
        (runs,) = [one for one in [*waiting, "first", "second", "third"] if bench.record(one).state is State.IN_QUEUE]
        order.append(runs)
        bench.runpod.says("status", Job(f"r{len(order)}", "COMPLETED", output=1))
        bench.check(after_s=2)
        bench.check(after_s=0.1)
    assert order == ["t0", "first", "second", "third"]


@pytest.mark.parametrize(
    ("given", "kept"), [(None, 0), (-1, 0), (12, 9), ("9", 0), (True, 1), ([], 0), (float("nan"), 0)]
)
def test_a_priority_of_any_kind_is_one_from_0_to_9(given: Any, kept: int) -> None:
    bench = Bench()
    call(bench, "t1", priority=given)
    assert bench.record("t1").priority == kept


def test_what_has_no_place_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = one_place()
    for number in range(40):
        call(bench, f"t{number}")
        if not number:
            bench.check()
    bench.check()
    read = read_by_a_check(bench, monkeypatch)
    for _ in range(20):
        bench.check(after_s=1)
    assert set(read) == {"t0"}


def test_a_call_behind_others_is_not_read_before_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = one_place()
    for task_id in ("t0", "t1"):
        call(bench, task_id)
    bench.check()
    read = read_by_a_check(bench, monkeypatch)
    call(bench, "behind")
    bench.check()
    assert "behind" not in read
    assert bench.record("behind").reason == "MAX_IN_FLIGHT"
    assert ("behind", "WAITING", {"reason": "MAX_IN_FLIGHT"}) in bench.shown
    assert bench.due("behind") > 500  # type: ignore[operator]


def test_what_the_budget_refuses_is_not_read_again_and_goes_when_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    ids = [f"t{number}" for number in range(30)]
    assert bench.services.budget.take(ENDPOINT, "run", PER_WINDOW["run"]) == PER_WINDOW["run"]
    for task_id in ids:
        call(bench, task_id)
    bench.check()
    assert bench.record("t3").reason == "BUDGET" and submitted(bench, ids) == []
    read = read_by_a_check(bench, monkeypatch)
    for _ in range(5):
        bench.check(after_s=1)
    assert read == []
    bench.check(after_s=2 * WINDOW_S)
    assert submitted(bench, ids) == ids


def test_looks_that_the_budget_refuses_are_not_read_and_the_oldest_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    monkeypatch.setitem(PER_WINDOW, "status", 40)
    for number in range(100):
        bench.accepted(f"t{number}")
        bench.now += 0.001
    bench.now += 5
    read = read_by_a_check(bench, monkeypatch)
    asked: list[str] = []
    while len(asked) < 100:
        before = len(bench.runpod.calls)
        bench.check(after_s=1)
        asked += [made[2] for made in bench.runpod.calls[before:] if made[0] == "status"]
        assert len(read) == len(asked)
    # Each once, before any is asked about again.
    assert asked[:100] == [f"r{number}" for number in range(1, 101)]


def test_by_default_a_thousand_jobs_are_at_runpod(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Bench().settings.max_in_flight(ENDPOINT) == 1000
    assert Bench(RUNPOD_MOST_IN_FLIGHT="0").settings.max_in_flight(ENDPOINT) is None
    profiles = {ENDPOINT: Profile(ENDPOINT, max_in_flight=5000)}
    assert Bench(profiles=profiles).settings.max_in_flight(ENDPOINT) == 5000


def test_a_lost_check_of_what_waits_for_the_budget_is_published_again() -> None:
    bench = Bench()
    bench.services.budget.take(ENDPOINT, "run", PER_WINDOW["run"])
    call(bench, "t0")
    bench.check()
    bench.redis.delete(bench.store.keys.next_check_at(ENDPOINT))
    before = bench.count("runpod.status")
    bench.now += 2 * WINDOW_S
    assert heal(bench.services) == [ENDPOINT]
    assert bench.count("runpod.status") == before + 1


def test_a_check_that_dies_with_what_it_leased_gives_its_turn_back() -> None:
    bench = one_place()
    for task_id in ("t0", "t1"):
        call(bench, task_id)
    bench.check()
    bench.runpod.says("status", Job("r1", "COMPLETED", output=1))
    bench.check(after_s=2)
    # Another check leases t1, and is killed.
    leased = bench.store.lease_due(ENDPOINT, bench.now, bench.now + 40, 10, submits=1, max_in_flight=1)
    assert "t1" in leased.decided
    bench.check(after_s=1)
    assert bench.record("t1").state is State.WAITING
    bench.check(after_s=40)
    assert bench.record("t1").state is State.IN_QUEUE


def test_an_endpoint_with_nothing_to_do_leaves_the_index_and_its_next_call_puts_it_back() -> None:
    bench = Bench()
    counts = EndpointCounts(bench.services)
    call(bench, "t0")
    bench.check()
    counts.count_some()
    counts.count_some()
    assert bench.store.endpoints.all() == [ENDPOINT]
    bench.runpod.says("status", Job("r1", "COMPLETED", output=1))
    bench.check(after_s=2)
    bench.deliver("t0")
    counts.count_some()
    assert bench.store.endpoints.all() == [ENDPOINT], "once is not enough"
    counts.count_some()
    assert bench.store.endpoints.all() == []
    call(bench, "t1")
    assert bench.store.endpoints.all() == [ENDPOINT]


def test_an_endpoint_with_a_cancel_to_send_stays_in_the_index() -> None:
    bench = Bench()
    counts = EndpointCounts(bench.services)
    call(bench, "t0")
    bench.check()
    cancel_jobs(bench.services, ["t0"])
    bench.deliver("t0")
    counts.count_some()
    counts.count_some()
    assert bench.store.endpoints.all() == [ENDPOINT]


def test_a_job_that_somebody_watches_is_looked_at_each_second() -> None:
    bench = Bench()
    bench.accepted("t0", options=Options(deadline=600.0, backoff=Backoff(5.0, 2.0, 60.0, 0.0)))
    bench.check(after_s=5)
    assert bench.due("t0") == 10
    bench.store.watches.note(ENDPOINT, "t0")
    bench.check(after_s=10)
    assert bench.due("t0") == 1
    bench.redis.delete(bench.store.keys.watched(ENDPOINT, "t0"))
    bench.check(after_s=1)
    assert bench.due("t0") == 40
