"""What each part of the store works with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from celery_runpod._connect import RedisClient
from celery_runpod._protocol import DAY_S
from celery_runpod._store.keys import Keys
from celery_runpod._store.record import JobRecord
from celery_runpod._store.scripts import Scripts

OVERDUE_S = 3.0
"""A planned check counts for nothing so long after its time: its message was lost."""
BATCH = 1000
"""So many are read, or written, in one round trip."""


@dataclass(frozen=True)
class Lives:
    """How long what a job leaves behind is kept, in whole seconds: its tombstone, and the outcome under its idempotency
    key."""

    tombstone_s: int = 2 * int(DAY_S)
    key_s: int = int(DAY_S)

    def index_s(self, job: JobRecord, now: float) -> int:
        """For the index from RunPod's id to this task: over the life of record and tombstone."""
        return self.tombstone_s + int(max(0.0, job.end_by - now) + DAY_S)


@dataclass(eq=False)
class Part:
    """One concept of the store. `redis` decodes its responses."""

    redis: RedisClient
    keys: Keys
    scripts: Scripts
    lives: Lives

    def scanned(self, key: str) -> dict[str, float]:
        """A zset of any size, in batches: no command holds up Redis for long. What stays in it meanwhile is found."""
        found: Iterator[Any] = self.redis.zscan_iter(key, count=BATCH)
        return {member: float(score) for member, score in found}

    def scanned_set(self, key: str) -> set[str]:
        """The same of a set."""
        return set(self.redis.sscan_iter(key, count=BATCH))
