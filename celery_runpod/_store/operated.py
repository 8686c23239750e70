"""What the store keeps for operations by hand: purges, looks at RunPod's /health, jobs that failed and may run again.

Not here: a job's own way (``store.py``), what the operations do (`tasks/endpoint_tasks.py`, `tasks/retry.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from celery_runpod._protocol import DAY_S
from celery_runpod._store.states import State
from celery_runpod._store.upkeep import Upkeep

BATCH = 1000
HEALTH_KEPT_S = 120


class Operated(Upkeep):
    """The part of the store that is about operations."""

    def ids_in(self, endpoint: str, state: State) -> list[str]:
        """The task ids of the open jobs in a state."""
        return [task_id for task_id, found in self._states(endpoint) if found == state]

    def _states(self, endpoint: str) -> Iterator[tuple[str, str | None]]:
        ids: Any = self.redis.zrange(self.keys.due(endpoint), 0, -1)
        for start in range(0, len(ids), BATCH):
            some = ids[start : start + BATCH]
            with self.redis.pipeline(transaction=False) as pipe:
                for task_id in some:
                    pipe.hget(self.keys.job(endpoint, task_id), "state")
                yield from zip(some, pipe.execute(), strict=True)

    # The brake

    def hold(self, endpoint: str, now: float) -> float:
        """Submit nothing to this endpoint ("*": to any) until `lift`; answers since when that is so."""
        self.redis.hsetnx(self.keys.brake(), endpoint, repr(now))
        found: Any = self.redis.hget(self.keys.brake(), endpoint)
        return float(found or now)

    def lift(self, endpoint: str) -> None:
        """Take the brake off; `release` makes the jobs due that it held back."""
        self.redis.hdel(self.keys.brake(), endpoint)

    # Purges

    def note_purge(self, endpoint: str, at: float | None) -> None:
        """Note when the queue was purged; None removes the note."""
        if at is None:
            self.redis.delete(self.keys.purged(endpoint))
        else:
            self.redis.set(self.keys.purged(endpoint), repr(at), ex=int(DAY_S))

    def purged_at(self, endpoint: str) -> float | None:
        found: Any = self.redis.get(self.keys.purged(endpoint))
        return float(found) if found else None

    def look_now(self, endpoint: str, task_ids: list[str], now: float) -> None:
        """Make these open jobs due."""
        for start in range(0, len(task_ids), BATCH):
            scores = dict.fromkeys(task_ids[start : start + BATCH], now)
            self.redis.zadd(self.keys.due(endpoint), scores, xx=True)

    # Looks at /health

    def claim_health_look(self, endpoint: str, now: float, every_s: float) -> tuple[bool, str]:
        """Whether the caller is to look at /health now, and the reason that the last look found."""
        answer = self._run("claim_health_look", [self.keys.health(endpoint)], now, every_s, HEALTH_KEPT_S)
        return answer[0] == "look", str(answer[1])

    def note_health(self, endpoint: str, reason: str) -> None:
        self.redis.hset(self.keys.health(endpoint), "told", reason)

    # Jobs that failed

    def failed(self, endpoint: str, task_id: str) -> dict[str, str] | None:
        """What was kept of a job that failed; None if nothing is (any more)."""
        found: Any = self.redis.hgetall(self.keys.failed(endpoint, task_id))
        return dict(found) or None

    def tree_cancelled(self, ids: list[str]) -> bool:
        """Whether what hangs under any of these ids was cancelled less than a day ago; a cancel of one job alone, that
        came after its end, does not count."""
        return any(note != "job" for note in self.cancel_notes(ids).values())

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
