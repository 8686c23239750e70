"""A list of open jobs: which come first, and what it costs however many there are."""

from __future__ import annotations

import pytest

from celery_runpod._live.job_rows import open_rows
from tests.builders import NOW
from tests.unit.live.looks import Scene


@pytest.fixture
def scene() -> Scene:
    return Scene()


def put(scene: Scene, endpoint: str, task_id: str, *, name: str = "", **at: float) -> None:
    """A record, and when it is due by each index."""
    keys, redis = scene.store.keys, scene.bench.redis
    fields = scene.bench.job(task_id, name=name or endpoint).to_fields() | {"state": "IN_PROGRESS", "job_id": "r"}
    redis.zadd(keys.endpoints(), {endpoint: 0})
    redis.hset(keys.job(endpoint, task_id), mapping=fields)
    for index, score in at.items():
        redis.zadd(getattr(keys, index)(endpoint), {task_id: NOW + score})


def listed(scene: Scene, wanted: str | None, limit: int, most_read: int | None = None) -> tuple[list[str], int]:
    rows, left_out = open_rows(scene.store, wanted, limit, most_read)
    return [row.task_id for row in rows], left_out


def test_the_soonest_of_all_indexes_and_endpoints_come_first(scene: Scene) -> None:
    for number in range(40):
        put(scene, "busy", f"b{number:02}", due=600.0 + number, look=100.0 + number)
    put(scene, "busy", "looked-at-soon", due=9_000.0, look=2.0)
    put(scene, "quiet", "ended", undelivered=1.0)
    put(scene, "quiet", "waits", due=3.0)
    put(scene, "quiet", "late", due=8_000.0)
    assert listed(scene, None, 4) == (["ended", "looked-at-soon", "waits", "b00"], 40)
    assert listed(scene, "quiet", 2) == (["ended", "waits"], 1)
    assert listed(scene, None, 100)[0][-1] == "late"
    assert listed(scene, None, 100)[1] == 0


def test_others_stand_for_those_that_have_ended_meanwhile(scene: Scene) -> None:
    for number in range(30):
        put(scene, "e", f"t{number:02}", due=float(number))
    for number in range(25):
        scene.bench.redis.delete(scene.store.keys.job("e", f"t{number:02}"))
    assert listed(scene, None, 3) == (["t25", "t26", "t27"], 2)
    assert listed(scene, "none", 3) == ([], 0)


def test_only_the_records_that_are_shown_are_read(scene: Scene) -> None:
    for endpoint in range(20):
        for number in range(30):
            put(scene, f"e{endpoint}", f"t{endpoint}-{number}", due=float(number), look=float(number))
    trips = scene.trips()
    found, left_out = listed(scene, None, 50)
    assert (len(found), left_out) == (50, 550)
    assert sum(trip.count("HMGET") for trip in trips) == 50
    assert sum(map(len, trips)) < 20 * 6 + 50 * 4 + 100


def test_a_name_is_looked_for_in_so_many_records(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("celery_runpod._live.job_rows.BATCH", 10)
    for number in range(45):
        put(scene, "e", f"t{number:02}", name="sdxl" if number % 2 else "flux", due=float(number))
    assert listed(scene, "sdxl", 2) == (["t01", "t03"], 20)
    trips = scene.trips()
    assert listed(scene, "sdxl", 2, most_read=20) == (["t01", "t03"], 8 + 25)
    assert sum(trip.count("HMGET") for trip in trips) == 20 + 2
