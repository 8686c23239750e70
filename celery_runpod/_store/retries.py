"""Jobs that failed and may be run again by hand.

Not here: what a retry does (`tasks/retry.py`).
"""

from __future__ import annotations

from typing import Any

from celery_runpod._protocol import DAY_S
from celery_runpod._store.store_part import Part


class Retries(Part):
    """What was kept of jobs that failed, and which retry took each."""

    def failed(self, endpoint: str, task_id: str) -> dict[str, str] | None:
        """What was kept of a job that failed; None if nothing is (any more)."""
        found: Any = self.redis.hgetall(self.keys.failed(endpoint, task_id))
        # What was kept may have expired before a retry claimed it: then nothing stands there but the claim.
        return dict(found) if "format" in found else None

    def claim_retry(self, endpoint: str, task_id: str, new_id: str) -> tuple[str, bool]:
        """The task id under which a failed job is run again, `new_id` or the one that came first; and whether that one
        has its record."""
        key = self.keys.failed(endpoint, task_id)
        self.redis.hsetnx(key, "retried_as", new_id)
        self._let_expire(key)
        found: Any = self.redis.hmget(key, ["retried_as", "retry_begun"])
        return str(found[0]), found[1] is not None

    def note_retry_begun(self, endpoint: str, task_id: str) -> None:
        key = self.keys.failed(endpoint, task_id)
        self.redis.hset(key, "retry_begun", "1")
        self._let_expire(key)

    def _let_expire(self, key: str) -> None:
        """What was kept may have expired meanwhile, and what stands there now must expire too."""
        left_s: Any = self.redis.ttl(key)
        if left_s < 0:
            self.redis.expire(key, int(DAY_S))
