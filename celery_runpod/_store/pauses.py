"""What keeps calls from RunPod: pauses after trouble, and holds by hand.

Not here: the gate of the submits (``gate.lua``, ``submits.py``), which shares its hash with the pause of "run".
"""

from __future__ import annotations

from typing import Any

from celery_runpod._protocol import EVERY_ENDPOINT
from celery_runpod._store.store_part import Part

PAUSE_BASE_S, PAUSE_CAP_S = 1.0, 60.0
"""The first pause after trouble with RunPod's API, and the longest (`pause_wait` in ``gate.lua``)."""


class Pauses(Part):
    """The pauses of one operation of an endpoint: a 429 on /run does not stop the looks."""

    def pause(self, endpoint: str, operation: str, now: float, retry_after_s: float | None, spread: float) -> float:
        """Pause an operation of an endpoint; answers until when."""
        until = self.scripts.run(
            "pause",
            endpoint=endpoint,
            operation=operation,
            now=now,
            retry_after=retry_after_s,
            base=PAUSE_BASE_S,
            cap=PAUSE_CAP_S,
            spread=spread,
        )
        return float(until)

    def paused_until(self, endpoint: str, *operations: str) -> float | None:
        """Until when the one of these operations is paused that is so the longest, also when that time is past: then it
        works again, unless `unpause` was called. In one round trip."""
        with self.redis.pipeline(transaction=False) as pipe:
            for operation in operations:
                pipe.hget(self.keys.pause(endpoint, operation), "until")
            found: list[Any] = pipe.execute()
        return max((float(until) for until in found if until is not None), default=None)

    def unpause(self, endpoint: str, operation: str, seen_until: float) -> None:
        """The operation works. A pause that began meanwhile, beyond the one that was seen, stays."""
        self.scripts.run("unpause", endpoint=endpoint, operation=operation, seen_until=seen_until)


class Holds(Part):
    """Submits that were stopped by hand, for an endpoint or for all ("*")."""

    def hold(self, endpoint: str, now: float) -> float:
        """Submit nothing to this endpoint ("*": to any) until `lift`; answers since when that is so."""
        self.redis.hsetnx(self.keys.holds(), endpoint, repr(now))
        found: Any = self.redis.hget(self.keys.holds(), endpoint)
        return float(found or now)

    def lift(self, endpoint: str) -> None:
        """End the hold. `Submits.may_submit` then lets the held jobs go."""
        self.redis.hdel(self.keys.holds(), endpoint)

    def on_hold(self, endpoint: str) -> float | None:
        """Since when submits to this endpoint are paused by hand, in seconds since 1970; None: they are not."""
        found: Any = self.redis.hmget(self.keys.holds(), [endpoint, EVERY_ENDPOINT])
        return min((float(since) for since in found if since is not None), default=None)

    def by_endpoint(self) -> dict[str, float]:
        """RunPod's endpoint id, or "*" for all -> since when (s) nothing is submitted there, by hand."""
        found: Any = self.redis.hgetall(self.keys.holds())
        return {endpoint: float(since) for endpoint, since in found.items()}
