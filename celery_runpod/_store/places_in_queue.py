"""Which places the jobs of an endpoint have in RunPod's queue, as far as is known here, and when they are looked at.

Not here: what follows from a place (`tasks/runpod_queue.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from celery_runpod._store.store_part import Part

COUNT_EVERY_S = 5.0
"""How often RunPod is asked how many jobs of an endpoint are in progress, while looks are planned by that."""
MOVED_AT_ONCE = 1000
"""The looks at so many jobs at the head of RunPod's queue are made earlier."""


class RunPodQueue(Part):
    """The jobs of an endpoint at RunPod, in the order in which RunPod takes them from its queue, roughly."""

    def learned(self, endpoint: str, now: float) -> tuple[list[float], int, bool]:
        """For how many seconds RunPod worked on each of the latest jobs that ended; how many are in progress, as far as
        looks and /health have shown; and whether /health has counted them just now."""
        with self.redis.pipeline(transaction=False) as pipe:
            pipe.lrange(self.keys.lengths(endpoint), 0, -1)
            pipe.zcount(self.keys.inflight(endpoint), "-inf", 0)
            pipe.hmget(self.keys.health(endpoint), ["in_progress", "counted_at"])
            lengths, seen, (in_progress, counted_at) = pipe.execute()
        counted = counted_at is not None and now - float(counted_at) <= 3 * COUNT_EVERY_S
        return [float(one) for one in lengths], max(seen, int(in_progress or 0)), counted

    def head(self, endpoint: str) -> list[tuple[str, float, int, float]]:
        """Those at the head of the queue, as far as looks have shown: task id, when it was submitted (far later, if it is
        of low priority), how many jobs at RunPod are before it, and when the next look is planned (s since 1970)."""
        inflight, look = self.keys.inflight(endpoint), self.keys.look(endpoint)
        begun: Any = self.redis.zcount(inflight, "-inf", 0)
        found: Any = self.redis.zrange(inflight, begun, begun + MOVED_AT_ONCE - 1, withscores=True)
        if not found:
            return []
        planned: Any = self.redis.zmscore(look, [task_id for task_id, _ in found])
        return [
            (task_id, submitted_at, begun + place, at)
            for place, ((task_id, submitted_at), at) in enumerate(zip(found, planned, strict=True))
            if at is not None
        ]

    def look_earlier(self, endpoint: str, plans: Mapping[str, float]) -> None:
        """Look at these jobs at these times, where their looks were planned by their place in the queue, for later."""
        pairs = [part for pair in plans.items() for part in pair]
        self.scripts.run("look_earlier", endpoint=endpoint, plans=pairs)
