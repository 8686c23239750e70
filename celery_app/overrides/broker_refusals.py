"""Growing pauses for a Redis broker that answers but refuses commands, and one line of the log that says why.

A queue's key that is not a list (WRONGTYPE) stops every worker of the namespace. Celery connects again at once and meets
the same refusal, in a loop that uses a whole core and fills the log.

Not here: a Redis that is away; Celery waits for it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from celery import Celery
from redis.exceptions import ResponseError

log = logging.getLogger(__name__)

FIRST_S, LONGEST_S = 0.25, 10.0
FORGOTTEN_S = 60.0
"""After this time without a refusal, the pauses start again at `FIRST_S`."""
STEP_S = 0.25
"""How often a pause checks whether the worker stops."""


class Refusals:
    """The pauses of one consumer. `stops`: whether the worker is to end."""

    def __init__(
        self,
        stops: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._stops, self._clock, self._sleep = stops, clock, sleep
        self._last: float | None = None
        self._pause_s = FIRST_S

    def wait(self, error: ResponseError, app: Celery, queues: Iterable[str]) -> None:
        """Pause before the next connection; double the time of the last pause, up to `LONGEST_S`."""
        if self._last is None or self._clock() - self._last > FORGOTTEN_S:
            self._pause_s = FIRST_S
            if str(error).startswith("WRONGTYPE"):
                log.error(
                    "the broker's keys %s hold another type than a queue's: no message is fetched. Look at each with "
                    "redis-cli TYPE, and RENAME it to a name that no queue has",
                    ", ".join(map(repr, wrong_keys(app, queues))) or "of the worker's queues",
                )
        ends = self._clock() + self._pause_s
        while (left := ends - self._clock()) > 0 and not self._stops():
            self._sleep(min(left, STEP_S))
        self._last, self._pause_s = self._clock(), min(2 * self._pause_s, LONGEST_S)


def wrong_keys(app: Celery, queues: Iterable[str]) -> list[str]:
    """The keys of the broker that have the wrong type; none if the broker cannot be read."""
    try:
        with app.connection_for_read() as connection:
            return list(_wrong_keys(connection.default_channel, queues))
    except Exception as error:
        # Only for the text of the log; the consumer meets the same error itself.
        log.debug("the broker's keys cannot be looked at: %r", error)
        return []


def _wrong_keys(channel: Any, queues: Iterable[str]) -> Iterator[str]:
    client = channel.client
    keys = [channel._q_for_pri(queue, step) for queue in queues for step in channel.priority_steps]
    looks: list[tuple[str, Callable[..., Any], tuple[str, ...]]] = [
        (key, client.llen, ()) for key in dict.fromkeys(keys)
    ]
    looks += [(channel.unacked_key, client.hget, ("",)), (channel.unacked_index_key, client.zcard, ())]
    for key, look, more in looks:
        try:
            look(key, *more)
        except ResponseError as error:
            if str(error).startswith("WRONGTYPE"):
                yield key
