"""What a pass of the watchdog costs with many endpoints, and that it misses none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from celery_app.watchdog.endpoint_counts import EndpointCounts
from celery_app.watchdog.overdue_checks import BATCH, PATIENCE_S, heal
from celery_runpod._store.endpoint_index import AT_MOST_S, LATE_S, PAGE
from celery_runpod.api import Job
from tasks.check import Check
from tasks.publish_check import plan_check
from tests.builders import ENDPOINT, NOW, Bench
from tests.redis_commands import asked_of_redis

MANY = 500
SMALL_ZSET = 128
"""A page of a zset that Redis keeps in one piece is the whole of it."""


def fleet(number: int = MANY) -> Bench:
    """A bench with one job of a long countdown on each endpoint; the check of each is planned."""
    bench = Bench()
    for place in range(number):
        job = replace(bench.job(f"t{place}", not_before=bench.now + 3600), endpoint=f"e{place:03}")
        bench.store.ids.index(job, (), ())
        assert bench.store.accept(job, bench.now + 3600) == "accepted"
        plan_check(bench.services, job.endpoint, bench.now + 30)
    return bench


def lose_checks(bench: Bench) -> None:
    """What was published and is in the queue is gone."""
    with bench.app.connection_for_read() as connection:
        connection.default_channel._purge("runpod.status")


@pytest.fixture(scope="module")
def quiet() -> Bench:
    return fleet()


def test_a_pass_over_500_endpoints_with_nothing_overdue_costs_the_same_as_over_one(quiet: Bench) -> None:
    with asked_of_redis() as asked:
        assert heal(quiet.services) == []
    assert asked.total == 1


def test_a_pass_reads_what_is_late_and_not_what_there_is(quiet: Bench) -> None:
    quiet.redis.zadd(quiet.store.keys.due("e007"), {"t7": quiet.now - 5})
    quiet.store.endpoints.note_due("e007", quiet.now - 5)
    with asked_of_redis() as asked:
        quiet.redis.delete(quiet.store.keys.next_check_at("e007"))
        assert heal(quiet.services) == ["e007"]
    assert asked.total < 20
    assert quiet.store.endpoints.late(quiet.now, 10) == {}, "its check moves it ahead"


def test_the_count_of_what_is_open_goes_by_pages(quiet: Bench) -> None:
    counts = EndpointCounts(quiet.services)
    passes = 0
    while not quiet.redis.exists(quiet.store.keys.totals()):
        with asked_of_redis() as asked:
            counts.count_some()
        assert asked.total <= max(3 * PAGE, SMALL_ZSET) + 5
        passes += 1
        assert passes <= MANY
    totals = quiet.store.open_jobs.totals()
    assert totals is not None and totals.jobs == MANY, "nothing is written before every endpoint was counted"
    assert passes > 1


def test_after_an_outage_every_endpoint_is_healed_in_a_few_passes() -> None:
    bench = fleet(BATCH + 50)
    bench.now += 4000
    assert len(set(heal(bench.services))) == BATCH + 50
    assert heal(bench.services) == []


def test_a_check_that_is_lost_is_found_by_its_time() -> None:
    bench = Bench()
    bench.accepted()
    bench.check(after_s=1)
    due = bench.due()
    assert due is not None
    lose_checks(bench)
    bench.now += due + LATE_S - 0.1
    assert heal(bench.services) == []
    bench.now += 0.2
    assert heal(bench.services) == [ENDPOINT]


def test_a_check_whose_process_dies_before_it_is_published_is_found() -> None:
    """Its time stands in the plan of the endpoint, and not in the index."""
    bench = Bench()
    bench.accepted()
    check = Check(bench.services, ENDPOINT)
    bench.now += 1
    check.store.endpoints.note_check = lambda *_: None  # type: ignore[method-assign]
    check.run()
    began = bench.now
    lose_checks(bench)
    healed: list[str] = []
    while not healed:
        bench.now += 1
        healed = heal(bench.services)
        assert bench.now < began + 20
    assert bench.count("runpod.status") == 1


def test_while_checks_wait_in_their_queue_a_late_one_is_not_taken_for_lost() -> None:
    """With busy workers each endpoint had one or two more messages for each that waited."""
    bench = Bench()
    bench.accepted()
    bench.check(after_s=1)
    before, due = bench.count("runpod.status"), bench.due()
    assert before and due is not None
    bench.now += due
    while bench.now < NOW + 25:
        assert heal(bench.services) == []
        bench.now += 2
    assert bench.count("runpod.status") == before
    bench.now += PATIENCE_S
    assert heal(bench.services) == [ENDPOINT], "it may be lost all the same"


def test_an_outcome_that_is_not_delivered_is_found_though_no_check_is_planned() -> None:
    bench = Bench()
    bench.accepted()
    bench.runpod.says("status", Job("r1", "COMPLETED", output=1))
    bench.check(after_s=2)
    found = 0.0
    while not heal(bench.services):
        bench.now += 1
        found += 1
        assert found < AT_MOST_S
    assert bench.store.outstanding(ENDPOINT, bench.now).undelivered == ["t1"]


def test_a_check_that_was_planned_while_an_endpoint_was_read_keeps_its_time() -> None:
    bench = fleet(1)
    bench.now += 31 + LATE_S
    seen = bench.store.endpoints.late(bench.now, 10)
    bench.store.endpoints.note_check("e000", bench.now + 1)
    bench.store.endpoints.put_off(seen, {"e000": bench.now + AT_MOST_S})
    assert bench.store.endpoints.late(bench.now + 1 + LATE_S, 10) == {"e000": bench.now + 1 + LATE_S}
