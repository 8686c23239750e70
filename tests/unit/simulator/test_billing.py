"""What ran, in buckets of time, times its price."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from celery_runpod._simulator.management.billing import (
    BadWindow,
    Meter,
    Window,
    beginning,
    following,
    pod_costs,
    window,
)
from celery_runpod._simulator.management.catalog import DISK_PER_GB_H
from celery_runpod._simulator.management.simulated_pods import Pace, Pod, PodSpec


def at(*parts: int) -> float:
    return datetime(*parts, tzinfo=UTC).timestamp()  # type: ignore[arg-type,misc]


NOON = at(2026, 6, 10, 12)
DAY = Window(at(2026, 6, 10), at(2026, 6, 11), "day")


def pod(now: float, **fields: object) -> Pod:
    spec = PodSpec("a", "b", 3.6, "US-KS-2", gpu=("NVIDIA L4", 1), disk=0, **fields)  # type: ignore[arg-type]
    return Pod("p", 0, spec, now, Pace())


@pytest.mark.parametrize(
    ("size", "start", "end"),
    [
        ("hour", at(2026, 6, 10, 12), at(2026, 6, 10, 13)),
        ("day", at(2026, 6, 10), at(2026, 6, 11)),
        ("week", at(2026, 6, 8), at(2026, 6, 15)),
        ("month", at(2026, 6, 1), at(2026, 7, 1)),
        ("year", at(2026, 1, 1), at(2027, 1, 1)),
    ],
)
def test_a_bucket_begins_and_ends_where_the_calendar_says(size: str, start: float, end: float) -> None:
    assert beginning(NOON + 1234.5, size) == start
    assert following(start, size) == end


def test_short_months_and_leap_years() -> None:
    assert following(at(2024, 2, 1), "month") == at(2024, 3, 1)
    assert following(at(2024, 1, 1), "year") == at(2025, 1, 1)
    assert following(at(2024, 12, 1), "month") == at(2025, 1, 1)


def test_a_window_is_widened_to_whole_buckets() -> None:
    assert window(NOON, "day", at(2026, 6, 1, 5), at(2026, 6, 3), None) == (at(2026, 6, 1), at(2026, 6, 3), "day")
    assert window(NOON, "day", None, None, None) == (at(2026, 5, 11), at(2026, 6, 11), "day")
    assert window(NOON, "month", None, None, 3) == (at(2026, 4, 1), at(2026, 7, 1), "month")


@pytest.mark.parametrize(
    ("size", "start", "end", "last", "words"),
    [
        ("decade", None, None, None, "bucketSize: value must be one of hour, day, week, month, year"),
        ("day", NOON, None, 3, "exclude each other"),
        ("day", NOON, NOON - 1, None, "endTime must not be before startTime"),
        ("day", None, None, 0, "lastN: must be from 1"),
    ],
)
def test_a_window_that_cannot_be(
    size: str, start: float | None, end: float | None, last: int | None, words: str
) -> None:
    with pytest.raises(BadWindow, match=words):
        window(NOON, size, start, end, last)


def test_a_pod_costs_for_its_runs_alone() -> None:
    one = pod(NOON)
    one.act("stop", NOON + 1000)
    one.act("start", NOON + 5000)
    (row,) = pod_costs([one], DAY, NOON + 6000)
    assert (row.seconds, row.compute, row.disk) == (2000.0, pytest.approx(2.0), 0.0)


def test_a_run_over_midnight_is_in_two_buckets() -> None:
    found = Window(at(2026, 6, 10), at(2026, 6, 12), "day")
    one = pod(at(2026, 6, 10, 23))
    assert [row.seconds for row in pod_costs([one], found, at(2026, 6, 11, 2))] == [3600.0, 7200.0]


def test_the_volume_of_a_stopped_pod_costs_twice_as_much() -> None:
    one = pod(NOON, mounts={"persistent": {"size": 10, "path": "/workspace"}})
    one.act("stop", NOON + 3600)
    (row,) = pod_costs([one], DAY, NOON + 7200)
    assert row.disk == pytest.approx(10 * DISK_PER_GB_H * (1 + 2))


def test_a_pod_that_is_gone_stays_on_the_bill() -> None:
    one = pod(NOON)
    one.act("terminate", NOON + 60)
    (row,) = pod_costs([one], DAY, NOON + 9000)
    assert row.seconds == 60.0


def test_the_meter_adds_up_by_the_hour() -> None:
    meter = Meter()
    meter.add(NOON - 10, NOON + 20)
    meter.add(NOON + 100, NOON + 101)
    assert meter.between(NOON - 3600, NOON) == 10.0
    assert meter.between(NOON, NOON + 3600) == 21.0
    assert (meter.first(0.0), Meter().first(7.0)) == (NOON - 3600, 7.0)
