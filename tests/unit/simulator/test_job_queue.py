"""The queue of an endpoint: order, priority, deadlines, purge, counts."""

from __future__ import annotations

import weakref

from celery_runpod._simulator.job_queue import MOST_GONE_BYTES, SPARE_DUE, JobQueue
from celery_runpod._simulator.simulated_jobs import Job, State


def job(name: str, at: float = 0.0, *, low: bool = False, ttl_s: float = 1000.0) -> Job:
    return Job(name, "sdxl", name, at, low_priority=low, ttl_s=ttl_s)


def filled(*jobs: Job, retention_s: float | None = None) -> JobQueue:
    store = JobQueue(retention_s)
    for found in jobs:
        store.add(found)
    return store


def taken(store: JobQueue) -> list[str]:
    found = []
    while (one := store.take(1.0, "w")) is not None:
        found.append(one.id)
    return found


def test_first_come_first_served_and_low_priority_last() -> None:
    assert taken(filled(job("low", low=True), job("a"), job("b"))) == ["a", "b", "low"]


def test_a_job_that_runs_again_goes_to_the_end() -> None:
    store = filled(job("a"), job("b"))
    first = store.take(1.0, "w")
    assert first is not None and first.requeue(2.0)
    store.again(first)
    assert (taken(store), store.retried) == (["b", "a"], 1)


def test_purge_removes_what_waits_and_nothing_else() -> None:
    store = filled(job("running"), job("a"), job("b", low=True))
    store.take(1.0, "w")
    assert [one.id for one in store.purge()] == ["a", "b"]
    assert (list(store.jobs), store.waiting, len(store.running)) == (["running"], 0, 1)
    assert [one["status"] for one in store.listing()].count("PURGED") == 2


def test_due_jobs_are_handed_out_once_for_each_deadline() -> None:
    one = job("a", ttl_s=50.0)
    store = filled(one, retention_s=5.0)
    assert store.due(49.0) == []
    store.take(1.0, "w")
    one.finish(2.0, output=1)
    store.ended(one)
    assert store.due(6.9) == []
    assert store.due(7.0) == [one]
    store.forget(one, "FORGOTTEN")
    assert store.due(1000.0) == []


def test_a_shorter_life_is_noticed() -> None:
    one = job("a", ttl_s=500.0)
    store = filled(one)
    one.ttl_s = 10.0
    store.watch(one)
    assert store.due(10.0) == [one]


def test_a_job_that_is_due_for_two_reasons_is_handed_out_once() -> None:
    one = job("a", ttl_s=50.0)
    store = filled(one)
    store.take(1.0, "w")
    assert store.due(51.0) == [one]


class Bulk:
    """An output that can be seen to be gone."""


def test_nothing_keeps_the_output_of_a_deleted_job() -> None:
    store = filled(job("a"))
    output = Bulk()
    seen = weakref.ref(output)
    one = store.take(1.0, "w")
    assert one is not None
    one.finish(2.0, output=output)
    store.ended(one)
    store.forget(one, "FORGOTTEN")
    del one, output
    assert seen() is None
    assert [found["id"] for found in store.listing()] == ["a"]


def test_deadlines_of_deleted_jobs_do_not_pile_up() -> None:
    store = filled(job("stays", ttl_s=50.0))
    for number in range(3 * SPARE_DUE):
        one = job(str(number), ttl_s=90.0)
        store.add(one)
        store.forget(one, "FORGOTTEN")
    assert len(store._due) <= SPARE_DUE + 2
    assert [one.id for one in store.due(50.0)] == ["stays"]


def test_the_oldest_deleted_jobs_leave_the_listing_when_their_inputs_are_too_much() -> None:
    store = JobQueue()
    for name in ("a", "b", "c"):
        one = job(name)
        one.size = MOST_GONE_BYTES // 2
        store.add(one)
        store.forget(one, "FORGOTTEN")
    assert [found["id"] for found in store.listing()] == ["b", "c"]


def test_counts() -> None:
    ends = [job(name) for name in ("completed", "failed", "timed out", "cancelled")]
    store = filled(*ends)
    assert taken(store) == [one.id for one in ends]
    ends[0].finish(2.0)
    ends[1].finish(2.0, error="no")
    ends[2].time_out(2.0)
    ends[3].cancel(2.0)
    for one in ends:
        store.ended(one)
    assert (store.completed, store.failed, len(store.running), store.waiting) == (1, 2, 0, 0)
    assert [one["status"] for one in store.listing()].count(State.CANCELLED) == 1
