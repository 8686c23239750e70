"""Which jobs somebody watches: a worker looks at these more often, within its budget.

A watch is a key that lives for seconds and is renewed by whoever watches, so nothing is left of a reader that dies.

Not here: who watches (`celery_runpod/_live/`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from celery_runpod._store.part import Part

WATCHED_S = 5
"""How long a job counts as watched after it was noted."""


class Watches(Part):
    """The notes of all who watch."""

    def note(self, endpoint: str, task_id: str, on: Any = None) -> None:
        """Somebody watches this job for the next `WATCHED_S` seconds; on a pipeline, if one is given."""
        (self.redis if on is None else on).set(self.keys.watched(endpoint, task_id), "1", ex=WATCHED_S)

    def among(self, endpoint: str, ids: Iterable[str]) -> set[str]:
        """Those of these jobs that are watched, in one round trip."""
        wanted = list(dict.fromkeys(ids))
        if not wanted:
            return set()
        found: Any = self.redis.mget([self.keys.watched(endpoint, task_id) for task_id in wanted])
        return {task_id for task_id, noted in zip(wanted, found, strict=True) if noted is not None}
