"""The changes of one job, and the chunks that it yields, for a thread that waits for them.

Not here: many watchers in one event loop (``update_hub.py``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from redis.exceptions import RedisError

from celery_runpod._live.chunks import Chunk, ChunkReader
from celery_runpod._live.job_update import JobUpdate

LOOK_EVERY_S = 0.5
PATIENCE_S = 30.0
"""How long a store that does not answer is asked again: a restart or a failover is over by then."""
SHORT_S = 0.05
"""Between two reads of chunks where the reader does not wait itself."""


def followed(
    look: Callable[[], JobUpdate],
    reader: ChunkReader | None,
    *,
    timeout_s: float | None,
    heartbeat_s: float | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[JobUpdate | Chunk | None]:
    """How the job stands now, and then each change, until it has ended or the time is over; with a `reader` also the
    chunks of a job that streams, each before the last update. None where nothing has changed for `heartbeat_s`. `clock`
    never goes back.

    Raises:
        RedisError, OSError: the store has not answered for `PATIENCE_S`.
    """
    begun = answered_at = said_at = clock()
    last: JobUpdate | None = None
    while True:
        try:
            update = look()
            if update.ended and update.streamed and reader is not None:
                while rest := reader.rest():
                    yield from rest
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
        left = min(LOOK_EVERY_S, left)
        if reader is None or last is None or not last.streamed:
            sleep(left)
            continue
        for chunk in _read_for(reader, left, clock, sleep):
            yield chunk
            said_at = clock()


def _read_for(
    reader: ChunkReader, seconds: float, clock: Callable[[], float], sleep: Callable[[float], None]
) -> Iterator[Chunk]:
    """The chunks that come within this time. A store that does not answer is the next look's to judge."""
    until = clock() + seconds
    while (left := until - clock()) > 0:
        try:
            found = reader.read(left)
        except (RedisError, OSError):
            found = []
            sleep(left)
        yield from found
        if not found and (left := until - clock()) > 0:
            sleep(min(left, SHORT_S))
