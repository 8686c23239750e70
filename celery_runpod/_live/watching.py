"""The changes of one job, for a thread that waits for them.

Not here: many watchers in one event loop (``hub.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from redis.exceptions import RedisError

from celery_runpod._live.update import JobUpdate

LOOK_EVERY_S = 0.5
PATIENCE_S = 30.0
"""How long a store that does not answer is asked again: a restart or a failover is over by then."""


def changes(
    look: Callable[[], JobUpdate],
    *,
    timeout_s: float | None,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
    heartbeat_s: float | None = None,
) -> Iterator[JobUpdate | None]:
    """How the job stands now, and then each change, until it has ended or the time is over; None where nothing has
    changed for `heartbeat_s`. `clock` never goes back.

    Raises:
        RedisError, OSError: the store has not answered for `PATIENCE_S`.
    """
    begun = answered_at = said_at = clock()
    last: JobUpdate | None = None
    while True:
        try:
            update = look()
        except (RedisError, OSError):
            if clock() - answered_at >= PATIENCE_S:
                raise
        else:
            answered_at = clock()
            if update.differs(last):
                yield update
                said_at = clock()
            last = update
            if update.ended:
                return
        if heartbeat_s is not None and clock() - said_at >= heartbeat_s:
            yield None
            said_at = clock()
        left = LOOK_EVERY_S if timeout_s is None else begun + timeout_s - clock()
        if left <= 0:
            return
        sleep(min(LOOK_EVERY_S, left))
