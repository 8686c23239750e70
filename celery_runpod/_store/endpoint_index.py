"""Which endpoints have something to do, and by when a check of each must have begun.

The index is one zset of the namespace: endpoint -> that time. Each published check moves it ahead, so the watchdog reads
only the endpoints whose check did not begin, however many there are. A new call moves it back to soon. It is written
outside of the scripts, because its key and an endpoint's keys may be in different slots of a Redis Cluster; so a process
that dies in between leaves a time that is too late by `AT_MOST_S` at most.

Not here: who reads the late ones (`celery_app/watchdog/overdue_checks.py`), and what the endpoints hold
(``open_jobs.py``).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from celery_runpod._store.store_part import Part

LATE_S = 2.0
"""So long after its time something counts as overdue: until then its check may be under way."""
AT_MOST_S = 60.0
"""An endpoint whose check is not known is read after this time at the latest."""
CHECK_LIVES_S = 4.0
"""The same while a check of it lives: its end plans what nobody can read before."""
PAGE = 50


@dataclass(frozen=True)
class Found:
    """How an endpoint stands: whether a check of it must be published, and when to read it again."""

    overdue: bool
    read_again_at: float


class EndpointIndex(Part):
    """The endpoints of a namespace that have jobs."""

    def put_call(self, pipe: Any, endpoint: str, now: float) -> None:
        """A call is about to be accepted, on a pipeline: its first check is to begin soon."""
        pipe.zadd(self.keys.endpoints(), {endpoint: now + LATE_S}, lt=True)

    def note_check(self, endpoint: str, at: float) -> None:
        """A check is to begin at this time."""
        self.redis.zadd(self.keys.endpoints(), {endpoint: at + LATE_S})

    def note_due(self, endpoint: str, now: float) -> None:
        """Something has become due, and nobody has planned a check for it."""
        self.redis.zadd(self.keys.endpoints(), {endpoint: now + LATE_S}, lt=True)

    def late(self, now: float, most: int) -> dict[str, float]:
        """The endpoints whose check should have begun by now -> when, the latest first."""
        found: Any = self.redis.zrangebyscore(self.keys.endpoints(), "-inf", now, start=0, num=most, withscores=True)
        return {endpoint: float(at) for endpoint, at in found}

    def put_off(self, seen: Mapping[str, float], until: Mapping[str, float]) -> None:
        """Read these endpoints again at the times of `until`. One whose time is not the `seen` one any more
        keeps its own."""
        rows = [part for endpoint, at in until.items() for part in (endpoint, seen[endpoint], at)]
        if rows:
            self.scripts.run("put_off_endpoints", rows=rows)

    def read(self, endpoints: Iterable[str], now: float, patience_s: float = LATE_S) -> dict[str, Found]:
        """How these endpoints stand, in one round trip. A job on which something must be decided is overdue after
        `LATE_S`. A look or a submit may wait for the budget: it is overdue if no check is planned or lives. Nothing is
        while a planned check is late by less than `patience_s`."""
        ids = list(endpoints)
        with self.redis.pipeline(transaction=False) as pipe:
            for endpoint in ids:
                for order in (self.keys.due, self.keys.undelivered, self.keys.cancels, self.keys.look):
                    pipe.zrange(order(endpoint), 0, 0, withscores=True)
                pipe.hget(self.keys.pause(endpoint, "cancel"), "until")
                pipe.zcard(self.keys.waiting(endpoint))
                pipe.zcount(self.keys.checks(endpoint), now, "+inf")
                pipe.hget(self.keys.next_check_at(endpoint), "at")
            answers = pipe.execute()
        rows = [answers[place : place + ANSWERS] for place in range(0, len(answers), ANSWERS)]
        return {endpoint: _found(row, now, patience_s) for endpoint, row in zip(ids, rows, strict=True)}

    def page(self, cursor: int) -> tuple[int, list[str]]:
        """Some of the endpoints, and the cursor of the next page: 0 after the last one. An endpoint may come twice."""
        following, found = self.redis.zscan(self.keys.endpoints(), cursor, count=PAGE)  # type: ignore[misc]
        return int(following), [endpoint for endpoint, _ in found]

    def all(self) -> list[str]:
        """Every endpoint, in the order of their names."""
        return sorted(self.scanned(self.keys.endpoints()))

    def forget(self, endpoint: str) -> None:
        """Take an endpoint out of the index; its next call puts it back."""
        self.redis.zrem(self.keys.endpoints(), endpoint)


ANSWERS = 8
"""So many answers belong to one endpoint in `read`."""


def _found(answers: list[Any], now: float, patience_s: float) -> Found:
    due, undelivered, cancels, look = (float(one[0][1]) if one else math.inf for one in answers[:4])
    cancels_from, waiting, live, planned = answers[4:]
    wanted = -math.inf if waiting else look
    if live:
        wanted = math.inf
    elif planned is not None:
        wanted = max(wanted, float(planned))
    late_at = LATE_S + min(due, undelivered, max(cancels, float(cancels_from or 0.0)), wanted)
    if planned is not None and float(planned) <= now:
        late_at = max(late_at, float(planned) + patience_s)
    if late_at <= now:
        return Found(overdue=True, read_again_at=now + LATE_S)
    at_most_s = CHECK_LIVES_S if live else AT_MOST_S
    return Found(overdue=False, read_again_at=min(max(late_at, now + LATE_S), now + at_most_s))
