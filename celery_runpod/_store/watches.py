"""Which jobs somebody watches: a worker looks at these more often, within its budget.

A watch is a key that lives for seconds and is renewed by whoever watches, so nothing is left of a reader that dies.

Not here: who watches (`celery_runpod/_live/`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from celery_runpod._store.endpoint_index import LATE_S
from celery_runpod._store.store_part import Part

WATCHED_S = 5
"""How long a job counts as watched after it was noted."""


class Watches(Part):
    """The notes of all who watch."""

    def note(self, endpoint: str, task_id: str, on: Any = None) -> Any:
        """Somebody watches this job for the next `WATCHED_S` seconds; on a pipeline, if one is given. The answer is None
        where nobody has watched it until now: then `begin` follows."""
        key = self.keys.watched(endpoint, task_id)
        return (self.redis if on is None else on).set(key, "1", ex=WATCHED_S, get=True)

    def begin(self, endpoint: str, task_id: str, now: float) -> None:
        """Have the job looked at soon, also where its next look is minutes away: it is overdue, and the workers' watchdog
        publishes a check for what is overdue within seconds. So whoever watches needs no connection to the broker."""
        word = self.scripts.run("begin_watch", endpoint=endpoint, task_id=task_id, now=now, due_at=now - LATE_S)
        if word == "due":
            self.redis.zadd(self.keys.endpoints(), {endpoint: now}, xx=True, lt=True)

    def among(self, endpoint: str, ids: Iterable[str]) -> set[str]:
        """Those of these jobs that are watched, in one round trip."""
        wanted = list(dict.fromkeys(ids))
        if not wanted:
            return set()
        found: Any = self.redis.mget([self.keys.watched(endpoint, task_id) for task_id in wanted])
        return {task_id for task_id, noted in zip(wanted, found, strict=True) if noted is not None}
