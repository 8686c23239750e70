"""The time by which a worker judges: this machine's clock, unless it was set while the worker ran.

A clock that is set an hour ahead would end every job whose deadline is within that hour, and cancel it at RunPod. So a
jump is not believed: Redis is asked for the time, by which all workers judge. After a pause of the whole machine Redis
agrees with the clock. Otherwise the worker's time goes on as before, and the worker ends
(``watchdog/self_healing.py``), because Celery holds its countdowns by the machine's clock.

A clock that drifts, or is slewed, is followed.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable

from redis.exceptions import RedisError

from celery_runpod._store.start_checks import MOST_CLOCK_SKEW_S

log = logging.getLogger(__name__)

ASK_EVERY_S = 1.0


class SteadyClock:
    """Seconds since 1970, also in a process whose machine has a wrong clock when it begins.

    Args:
        redis_time: seconds since 1970 by Redis' clock; may raise RedisError and OSError.
        wall: the machine's clock, in seconds since 1970.
        monotonic: seconds that nobody sets.
    """

    def __init__(
        self,
        redis_time: Callable[[], float],
        wall: Callable[[], float] = time.time,  # noqa: TID251 - the edge: here the clock is injected
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._redis_time, self._wall, self._monotonic = redis_time, wall, monotonic
        self._ahead: float | None = None
        self._asked = -math.inf

    def __call__(self) -> float:
        ahead, steady = self._wall() - self._monotonic(), self._ahead
        if steady is None or abs(ahead - steady) > MOST_CLOCK_SKEW_S:
            ahead = self._confirmed(ahead, steady)
        self._ahead = ahead
        return self._monotonic() + ahead

    def _confirmed(self, ahead: float, steady: float | None) -> float:
        """How far the time is ahead of `monotonic`: as Redis says; while it is away, as before."""
        known = ahead if steady is None else steady
        if self._monotonic() < self._asked + ASK_EVERY_S:
            return known
        with contextlib.suppress(RedisError, OSError):
            known = self._redis_time() - self._monotonic()
        self._asked = self._monotonic()
        if abs(ahead - known) <= MOST_CLOCK_SKEW_S:
            return ahead
        log.critical("clock.not_believed", extra={"seconds_off": round(ahead - known, 1)})
        return known
