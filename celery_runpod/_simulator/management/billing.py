"""The bill: what ran, in buckets of time, times its price. Pure: the time is an argument. Amounts in USD.

Buckets begin at whole hours, days, weeks (Monday), months and years of UTC, as docs.runpod.io/api-reference-v2/billing
says. Not here: the shapes of the answers (``report_routes.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from celery_runpod._simulator.management import catalog
from celery_runpod._simulator.management.simulated_pods import Pod

HOUR_S = 3600
SIZES = ("hour", "day", "week", "month", "year")
DAYS = {"day": 1, "week": 7, "month": 31, "year": 366}
DEFAULT_DAYS = 30
MOST_BUCKETS = 1000
LATEST = 4e9
"""Times beyond it (the year 2096) are refused."""


class BadWindow(ValueError):
    """A window that cannot be; the text says why."""


class Window(NamedTuple):
    """[start, end), aligned to buckets of `size`."""

    start: float
    end: float
    size: str

    def buckets(self, first: float, last: float) -> Iterator[tuple[float, float]]:
        """Those buckets of the window in which something between `first` and `last` can have cost something."""
        start = max(self.start, beginning(first, self.size))
        while start < min(self.end, last):
            end = following(start, self.size)
            yield start, end
            start = end


@dataclass(frozen=True, slots=True)
class PodCost:
    """One pod in one bucket."""

    pod: Pod
    start: float
    end: float
    seconds: float
    compute: float
    disk: float


class Meter:
    """Seconds of use by the hour, so that a million jobs cost no more memory than one."""

    def __init__(self) -> None:
        self.hours: dict[int, float] = {}

    def add(self, start: float, end: float) -> None:
        """Something ran from `start` to `end`."""
        while start < end:
            hour = int(start // HOUR_S)
            until = min(end, (hour + 1) * HOUR_S)
            self.hours[hour] = self.hours.get(hour, 0.0) + until - start
            start = until

    def first(self, otherwise: float) -> float:
        """The start of the first hour with any use."""
        return min(self.hours) * HOUR_S if self.hours else otherwise

    def between(self, start: float, end: float) -> float:
        """Seconds, by whole hours."""
        return sum(seconds for hour, seconds in self.hours.items() if start <= hour * HOUR_S < end)


def beginning(at: float, size: str) -> float:
    """The start of the bucket that a time is in."""
    found = datetime.fromtimestamp(at, UTC).replace(minute=0, second=0, microsecond=0)
    if size != "hour":
        found = found.replace(hour=0)
    if size == "week":
        found -= timedelta(days=found.weekday())
    if size in ("month", "year"):
        found = found.replace(day=1)
    if size == "year":
        found = found.replace(month=1)
    return found.timestamp()


def following(start: float, size: str) -> float:
    """The start of the next bucket."""
    if size == "hour":
        return start + HOUR_S
    return beginning(start + DAYS[size] * 86_400, size)


def window(now: float, size: str, start: float | None, end: float | None, last: int | None) -> Window:
    """The window of a query.

    Raises:
        BadWindow: an unknown size, an end before its start, or both ways of saying it.
    """
    if size not in SIZES:
        raise BadWindow(f"bucketSize: value must be one of {', '.join(SIZES)}")
    if last is not None and (start is not None or end is not None):
        raise BadWindow("lastN and startTime/endTime exclude each other")
    if last is not None:
        if not 1 <= last <= MOST_BUCKETS:
            raise BadWindow(f"lastN: must be from 1 to {MOST_BUCKETS} but found {last}")
        first = beginning(now, size)
        until = following(first, size)
        for _ in range(last - 1):
            first = beginning(first - 1, size)
        return Window(first, until, size)
    end = now if end is None else end
    start = end - DEFAULT_DAYS * 86_400 if start is None else start
    if end < start:
        raise BadWindow("endTime must not be before startTime")
    until = beginning(end, size)
    return Window(beginning(start, size), until if until == end else following(until, size), size)


def pod_costs(pods: Iterable[Pod], found: Window, now: float) -> list[PodCost]:
    """A row for each pod and bucket with a cost, in the order of time."""
    everyone = list(pods)
    first = min((pod.created_at for pod in everyone), default=now)
    rows = [_pod_cost(pod, start, end, now) for start, end in found.buckets(first, now) for pod in everyone]
    return [row for row in rows if row.compute or row.disk]


def moment(text: str) -> float:
    """A time in RFC 3339; raises `BadWindow`."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise BadWindow(f"{text!r} is not a time in RFC 3339") from None
    at = (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    if not 0 <= at <= LATEST:
        raise BadWindow(f"{text!r} is not a time from 1970 to 2096")
    return at


def _pod_cost(pod: Pod, start: float, end: float, now: float) -> PodCost:
    end_of_life = now if pod.terminated_at is None else pod.terminated_at
    alive_s = overlap(pod.created_at, end_of_life, start, end)
    ran_s = sum(overlap(run.start, min(run.end, now), start, end) for run in pod.runs)
    stopped_s = max(0.0, alive_s - ran_s)
    volume = pod.spec.volume_gb
    running_disk = ran_s * (pod.spec.disk + volume)
    stopped_disk = stopped_s * volume * catalog.STOPPED_FACTOR
    compute = ran_s / HOUR_S * pod.spec.price_per_h
    return PodCost(pod, start, end, ran_s, compute, (running_disk + stopped_disk) / HOUR_S * catalog.DISK_PER_GB_H)


def overlap(start: float, end: float, low: float, high: float) -> float:
    """How long two spans are the same, in seconds."""
    return max(0.0, min(end, high) - max(start, low))
