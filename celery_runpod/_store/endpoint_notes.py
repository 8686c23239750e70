"""What is noted of an endpoint as a whole: when its queue was purged, and what the last look at /health found."""

from __future__ import annotations

from typing import Any

from celery_runpod._protocol import DAY_S
from celery_runpod._store.store_part import Part

HEALTH_KEPT_S = 120


class Purges(Part):
    """When the queue of an endpoint at RunPod was purged."""

    def note_purge(self, endpoint: str, at: float | None) -> None:
        """Note when the queue was purged; None removes the note."""
        if at is None:
            self.redis.delete(self.keys.purged(endpoint))
        else:
            self.redis.set(self.keys.purged(endpoint), repr(at), ex=int(DAY_S))

    def purged_at(self, endpoint: str) -> float | None:
        found: Any = self.redis.get(self.keys.purged(endpoint))
        return float(found) if found else None


class HealthLooks(Part):
    """Looks at an endpoint's /health, which all workers share."""

    def claim_health_look(self, endpoint: str, now: float, every_s: float) -> tuple[bool, str, float]:
        """Whether the caller is to look at /health now; why jobs wait, as the last look found; and when that look was
        claimed (s since 1970)."""
        answer = self.scripts.run("claim_health_look", endpoint=endpoint, now=now, every=every_s, kept=HEALTH_KEPT_S)
        return answer[0] == "look", str(answer[1]), float(answer[2])

    def note_health(self, endpoint: str, reason: str, in_progress: int, now: float) -> None:
        """What a look at this time (s since 1970) found: why jobs wait, and how many are in progress."""
        fields = {"told": reason, "in_progress": in_progress, "counted_at": repr(now)}
        self.redis.hset(self.keys.health(endpoint), mapping=fields)
