"""What the views of any framework do for a browser that watches a job: the status, the stream of events, the chunks.

Whoever asks must be allowed to: `refusal` calls the application's own hook, and without a hook it refuses everybody.
Under WSGI each stream occupies a thread, so their number is bounded; in an event loop all streams share one Redis
connection (``update_hub.py``).

Not here: how a framework reads a request and sends an answer (`celery_runpod/flask.py`,
`celery_runpod/django/_job_views.py`).
"""

from __future__ import annotations

import logging
import math
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from celery import Celery
from redis.exceptions import RedisError

from celery_runpod._connect import client_app
from celery_runpod._live import chunk_hub
from celery_runpod._live.browser_json import ENDED, RETRY, Position, chunk_json, to_json
from celery_runpod._live.chunks import Chunk, ChunkReader, is_chunk_id
from celery_runpod._live.job_reader import JobReader
from celery_runpod._live.job_update import JobUpdate
from celery_runpod._live.watching import followed
from celery_runpod._store.streams import START
from celery_runpod.errors import NotConfigured

log = logging.getLogger(__name__)

HEARTBEAT_S = 15.0
MOST_ID_LENGTH = 512
WSGI_STREAMS, WSGI_LIFE_S, WSGI_BYTES = 2, 120.0, 8_000_000
"""How many streams a process of a WSGI server serves at a time (waitress has 4 threads by default), how long each, and
with how many bytes; a browser connects again by itself. waitress keeps 16 MB for a browser that does not read; a thread
with more waits for ever."""
ASGI_STREAMS, ASGI_LIFE_S = 2_000, 600.0
SEND_S = 15.0
"""How long a thread of a WSGI server waits for a browser that does not take a piece."""
PIECE = 65_536
"""Bytes that are sent at a time: a slow browser has to take one of them in `SEND_S`, not a whole chunk of 1 MB."""
STATUS_READS = 4
"""How often chunks are read for one answer of the status: hundreds of small ones, or four that are large."""
RETRY_AFTER_S = 10
EVENT_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store, no-transform",
    "X-Accel-Buffering": "no",  # nginx sends each event at once
    "X-Content-Type-Options": "nosniff",
}
JSON_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


@dataclass(frozen=True)
class Answer:
    """An answer without a stream. `body` is JSON; None where the status allows no body."""

    status: int
    body: dict[str, Any] | None
    headers: dict[str, str] = field(default_factory=lambda: dict(JSON_HEADERS))


NO_TASK = Answer(400, {"error": "the query names no task: ?task=<task id>"})
NO_HOOK = Answer(403, {"error": "may_see is not set, so nobody may see a job"})
NOT_FOUND = Answer(404, {"error": "no such job, or not yours"})
ENDED_ALREADY = Answer(204, None)
"""A browser stops connecting again at this status."""
NO_PLACE = Answer(
    503, {"error": "too many streams are open: try again, or ask for the status"}, {"Retry-After": str(RETRY_AFTER_S)}
)
AWAY = Answer(503, {"error": "the job store cannot be reached"}, {"Retry-After": str(RETRY_AFTER_S)})


def refusal(task_id: str | None, may_see: Callable[[str], Any] | None) -> Answer | None:
    """None if this job may be seen; else the answer that refuses it. `may_see` gets the task id; it returns True, or
    raises what its framework answers with."""
    if not task_id:
        return NO_TASK
    if may_see is None:
        log.warning("a page asked for a job, and was refused: may_see is not set (docs/live.md)")
        return NO_HOOK
    if len(task_id) > MOST_ID_LENGTH or not task_id.isprintable():
        return NOT_FOUND
    found = may_see(task_id)
    if found is not True and found is not False:
        # A hook that forgets to return, or a coroutine, must not open anything.
        log.error("may_see returned a %s and not True or False: refused", type(found).__name__)
    return None if found is True else NOT_FOUND


def status(task_id: str, app: Celery | None = None, after: str | None = None) -> Answer:
    """How the job stands now. With `after`, the id of a chunk or "", also the next chunks behind it; if there are some,
    there may be more of them."""
    try:
        app = app if app is not None else client_app()
        update = JobReader(app).read_one(task_id)
        if after is None:
            return Answer(200, to_json(update))
        chunks = _next_chunks(ChunkReader(app, task_id, after if is_chunk_id(after) else START), update)
    except (RedisError, OSError, NotConfigured) as error:
        log.error("the status of task %s cannot be read: %s", task_id, error)
        return AWAY
    return Answer(200, {**to_json(update), "chunks": [chunk_json(chunk) for chunk in chunks]})


def _next_chunks(reader: ChunkReader, update: JobUpdate) -> list[Chunk]:
    """The next chunks of a job that streams, in a few reads."""
    found: list[Chunk] = []
    for _ in range(STATUS_READS if update.streamed else 0):
        some = reader.rest() if update.ended else reader.read()
        if not some:
            break
        found += some
    return found


def ended_already(last_event_id: str | None) -> bool:
    """Whether a browser that comes again has the last event: it is answered with `ENDED_ALREADY`."""
    return bool(last_event_id) and str(last_event_id).endswith(ENDED)


class Places:
    """How many streams are open in this process."""

    def __init__(self) -> None:
        self._taken = 0
        self._lock = threading.Lock()

    def take(self, most: int) -> bool:
        """Take a place; False if all are taken."""
        with self._lock:
            if self._taken >= most:
                return False
            self._taken += 1
            return True

    def enter(self) -> None:
        """Take a place, whether one is left or not."""
        with self._lock:
            self._taken += 1

    def leave(self) -> None:
        with self._lock:
            self._taken -= 1

    @property
    def taken(self) -> int:
        return self._taken


places = Places()


class Connection(Protocol):
    """The socket of a browser."""

    def gettimeout(self) -> float | None: ...

    def settimeout(self, value: float | None, /) -> None: ...

    def shutdown(self, how: int, /) -> None: ...


def connection_of(environ: Mapping[str, Any]) -> Connection | None:
    """The socket of a request, where the WSGI server gives it: gunicorn and Werkzeug do. They wait for ever for a browser
    that does not read; other servers have a limit of their own, or `WSGI_BYTES`."""
    return environ.get("gunicorn.socket") or environ.get("werkzeug.socket")


class BoundedStream:
    """The events of a stream that has a place, which it leaves at its end, when it is closed, or when it is forgotten.
    Meanwhile a send to `connection` waits for `SEND_S` at most; the server then closes the stream."""

    def __init__(self, events: Iterator[bytes], held: Places, connection: Connection | None = None) -> None:
        self._events, self._held = events, held
        self._connection = connection
        self._usual_s = None if connection is None else connection.gettimeout()
        self._left = False
        self._given_at = math.inf
        if connection is not None:
            connection.settimeout(SEND_S)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            piece = next(self._events)
            self._given_at = time.monotonic()
            return piece
        except BaseException:
            self._given_at = math.inf
            self.close()
            raise

    def close(self) -> None:
        if not self._left:
            self._left = True
            self._held.leave()
            if self._connection is not None:
                # A server may serve other requests over it; or it is closed already.
                with suppress(OSError):
                    self._connection.settimeout(self._usual_s)
                    if time.monotonic() - self._given_at >= SEND_S:
                        # gunicorn 27 would wait in its main thread until the browser closes its side.
                        self._connection.shutdown(socket.SHUT_RDWR)

    def __del__(self) -> None:
        # A response that a middleware throws away is neither read nor closed.
        self.close()


def wsgi_stream(
    task_id: str, last_event_id: str | None, app: Celery, most: int | None, environ: Mapping[str, Any]
) -> BoundedStream | None:
    """The events for one browser, in this thread; None if no place is left. A server with one thread has none: a stream
    would keep it from all else. `environ` is WSGI's of the request."""
    if not environ.get("wsgi.multithread") or not places.take(WSGI_STREAMS if most is None else most):
        return None
    job_reader, position = JobReader(app), Position(last_event_id)
    news = followed(
        lambda: job_reader.read_one(task_id),
        ChunkReader(app, task_id, position.after),
        timeout_s=WSGI_LIFE_S,
        heartbeat_s=HEARTBEAT_S,
    )
    return BoundedStream(_pieces(news, position), places, connection_of(environ))


def _pieces(news: Iterator[JobUpdate | Chunk | None], position: Position) -> Iterator[bytes]:
    """The events, each in pieces. A browser drops an event that is cut off, and asks for it again."""
    over_at, left = time.monotonic() + WSGI_LIFE_S, WSGI_BYTES
    yield RETRY
    try:
        for one in news:
            event = position.event(one)
            for start in range(0, len(event), PIECE):
                yield event[start : start + PIECE]
                if time.monotonic() >= over_at:
                    return
            left -= len(event)
            if left <= 0:
                return
    except (RedisError, OSError) as error:
        # The browser connects again, and names the last event that it has.
        log.error("a stream of events ends: %s", error)


async def asgi_stream(task_id: str, last_event_id: str | None, app: Celery) -> AsyncIterator[bytes]:
    """The events for one browser, in the running event loop. Its place is counted from its first event to its end."""
    places.enter()
    position = Position(last_event_id)
    news = chunk_hub.followed(app, task_id, position.after, HEARTBEAT_S)
    over_at = time.monotonic() + ASGI_LIFE_S
    try:
        yield RETRY
        async for one in news:
            yield position.event(one)
            if time.monotonic() >= over_at:
                return
    except (RedisError, OSError) as error:
        log.error("a stream of events ends: %s", error)
    finally:
        places.leave()
        await news.aclose()


def asgi_place(most: int | None) -> bool:
    """Whether one more stream may be opened in this process."""
    return places.taken < (ASGI_STREAMS if most is None else most)
