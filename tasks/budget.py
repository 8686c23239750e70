"""How many calls of each RunPod operation an endpoint may have; one budget, shared by every worker process.

The store counts. Pauses after a 429, or while the API is down, are in the store too (`store.pauses.pause`), also for each
endpoint and operation: a 429 on /run does not stop polling.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from celery_runpod._store.scripts import Scripts

WINDOW_S = 10
# docs.runpod.io/serverless/endpoints/operation-reference: base limits per endpoint in 10 s
PER_WINDOW = {"run": 1000, "runsync": 2000, "status": 2000, "stream": 2000, "cancel": 100, "purge-queue": 2}
LATE_S = 0.5
"""Calls reach RunPod a moment after they were taken, some later than others."""
SPARED = 20
"""At most one in so many looks of a window is left to those that a verdict waits for."""


class Calls(NamedTuple):
    """So many calls were `granted`. `more_at`: from when on (s since 1970) there may be more; 0, if all were granted."""

    granted: int
    more_at: float


class Budget:
    """How many calls may be made now. `clock` returns seconds since 1970.

    Raises:
        redis.exceptions.RedisError: the store is away.
    """

    def __init__(self, scripts: Scripts, clock: Callable[[], float]) -> None:
        self._scripts, self._clock = scripts, clock

    def ask(self, endpoint: str, operation: str, wanted: int, *, spare: int = 0) -> Calls:
        """Take as many of the wanted calls as are granted; they count from now. Leave `spare` calls to others."""
        granted, more_at = self._scripts.run(
            "take_calls",
            endpoint=endpoint,
            operation=operation,
            now=self._clock(),
            wanted=wanted,
            most=PER_WINDOW[operation],
            window=WINDOW_S + LATE_S,
            spare=spare,
        )
        return Calls(int(granted), float(more_at or 0.0))

    def take(self, endpoint: str, operation: str, wanted: int) -> int:
        """Take as many of the wanted calls as are granted, as `ask`; returns how many."""
        return self.ask(endpoint, operation, wanted).granted
