"""All who read chunks in one event loop: one thread reads for all of them, over one Redis connection.

The latest entries of a job that is read are kept here, for all of its readers; who stands further back is read for from
the store. So a slow reader costs no memory, and thousands of readers of one job cost one read.

Not here: what a chunk is (``chunks.py``), and the changes of the job itself, of which a watcher gets the latest alone
(``hub.py``).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from celery import Celery
from redis.exceptions import RedisError

from celery_runpod._live.chunks import Chunk, Cursor, Source, endpoint_of, source_of
from celery_runpod._live.hub import hub_of
from celery_runpod._live.update import JobUpdate
from celery_runpod._store.streams import Entry

log = logging.getLogger(__name__)

READ_EVERY_S = 0.05
READ_OF_EACH_S = 0.0002
"""With hundreds of jobs, reads come so much more slowly: their cost in time stays a part of a core."""
MOST_RECENT = 200
MOST_RECENT_BYTES = 1_000_000
"""Of the entries of one job that are kept here for those who are a moment late."""
AGAIN_S = 0.5
"""Before a store that did not answer is asked again."""

Place = tuple[str, str]
T = TypeVar("T")


class _Topic:
    """One job that is read: its latest entries, which begin behind `before`."""

    def __init__(self, tail: str) -> None:
        self.readers = 0
        self.before = self.tail = tail
        self.recent: deque[Entry] = deque()
        self.bytes = 0
        self.news = asyncio.Event()

    def add(self, entries: list[Entry]) -> None:
        for entry in entries:
            self.recent.append(entry)
            self.bytes += len(entry.text)
            self.tail = entry.id
        while len(self.recent) > MOST_RECENT or (self.bytes > MOST_RECENT_BYTES and len(self.recent) > 1):
            gone = self.recent.popleft()
            self.bytes -= len(gone.text)
            self.before = gone.id
        self.wake()

    def wake(self) -> None:
        self.news.set()
        self.news = asyncio.Event()


class ChunkHub:
    """The readers of one event loop. `source` is used in a thread of the hub's own; `idle` is called when none is
    left."""

    def __init__(
        self, source: Source, idle: Callable[[], None] = lambda: None, *, every_s: float = READ_EVERY_S
    ) -> None:
        self.source = source
        self._idle, self._every_s = idle, every_s
        self._topics: dict[Place, _Topic] = {}
        self._thread: ThreadPoolExecutor | None = None
        self._runner: asyncio.Task[None] | None = None
        self._failed: Exception | None = None
        self._users = 0

    def enter(self) -> None:
        """One more reader. The hub's thread lives until the last one has left."""
        self._users += 1
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="runpod-chunks")

    def leave(self, place: Place | None) -> None:
        """A reader has left; `place` is the job that it read, if it had come so far."""
        self._users -= 1
        if place is not None:
            self._topics[place].readers -= 1
            if not self._topics[place].readers:
                del self._topics[place]
        if not self._users and self._thread is not None:
            self._thread.shutdown(wait=False)
            self._thread = None
            self._idle()

    async def ask(self, what: Callable[..., T], *given: Any) -> T:
        """Ask the store something, in the hub's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, what, *given)

    def join(self, place: Place, after: str) -> None:
        """A reader reads this job from now on, until it leaves."""
        self._topics.setdefault(place, _Topic(after)).readers += 1
        if self._runner is None:
            self._runner = asyncio.get_running_loop().create_task(self._read_on())

    async def entries(self, place: Place, after: str) -> list[Entry]:
        """Some of the entries behind `after` of a job that was joined; waits until there is one.

        Raises:
            RedisError, OSError: the store does not answer.
        """
        topic = self._topics[place]
        while self._failed is None:
            news = topic.news
            if _order(after) < _order(topic.before):
                found = (await self.ask(self.source.read, [(*place, after)])).get(place, [])
                if found:
                    return found
                after = topic.before  # what was between is gone
            elif found := [entry for entry in topic.recent if _order(entry.id) > _order(after)]:
                return found
            else:
                await news.wait()
        raise self._failed

    async def _read_on(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._topics:
                wanted = [(*place, topic.tail) for place, topic in self._topics.items()]
                again_s, began = max(self._every_s, READ_OF_EACH_S * len(wanted)), loop.time()
                try:
                    found = await self.ask(self.source.read, wanted)
                except (RedisError, OSError):
                    # Whether the store has been away too long is decided in `hub.py`, which watches the job.
                    found, again_s = {}, AGAIN_S
                for place, entries in found.items():
                    if (topic := self._topics.get(place)) is not None:
                        topic.add(entries)
                await asyncio.sleep(max(0.0, again_s - (loop.time() - began)))
        except Exception as error:
            log.exception("chunks.failed")
            self._failed = error
        finally:
            self._runner = None
            for topic in self._topics.values():
                topic.wake()


def _order(entry_id: str) -> tuple[int, int]:
    milliseconds, _, number = entry_id.partition("-")
    return int(milliseconds), int(number)


_hubs: dict[tuple[asyncio.AbstractEventLoop, Celery], ChunkHub] = {}
"""Those in which somebody reads."""


def _hub_of(app: Celery) -> ChunkHub:
    key = (asyncio.get_running_loop(), app)
    if key not in _hubs:
        _hubs[key] = ChunkHub(source_of(app), lambda: _drop(key))
    return _hubs[key]


def _drop(key: tuple[asyncio.AbstractEventLoop, Celery]) -> None:
    _hubs.pop(key, None)


class _Reader:
    """Reads the chunks of one job in an event loop."""

    def __init__(self, hub: ChunkHub, app: Celery, task_id: str, after: str) -> None:
        self._hub, self._app, self._task_id = hub, app, task_id
        self._cursor = Cursor(after)
        self._place: Place | None = None
        hub.enter()

    async def begin(self) -> None:
        """Join the job. Its record is there: somebody has seen it.

        Raises:
            RedisError, OSError: the store does not answer.
        """
        endpoint = await self._hub.ask(endpoint_of, self._app, self._task_id)
        if endpoint is None:
            return
        await self._hub.ask(self._cursor.resume, self._hub.source, endpoint, self._task_id)
        self._place = (endpoint, self._task_id)
        self._hub.join(self._place, self._cursor.after)

    async def some(self) -> list[Chunk]:
        """The next chunks; waits until there is one."""
        while self._place is None:
            try:
                await self.begin()
            except (RedisError, OSError):
                pass  # `hub.py`, which watches the job, decides whether the store has been away too long
            if self._place is None:
                await asyncio.sleep(AGAIN_S)
        while True:
            try:
                return self._cursor.take(await self._hub.entries(self._place, self._cursor.after))
            except (RedisError, OSError):
                await asyncio.sleep(AGAIN_S)

    async def rest(self) -> list[Chunk]:
        """The next chunks of a job that has ended, from the store; empty after the last one."""
        if self._place is None:
            await self.begin()
        if self._place is None:
            return []
        found = await self._hub.ask(self._hub.source.read, [(*self._place, self._cursor.after)])
        chunks = self._cursor.take(found.get(self._place, []))
        return chunks or await self._hub.ask(self._cursor.end, self._hub.source, *self._place)

    def leave(self) -> None:
        self._hub.leave(self._place)


async def followed(
    app: Celery, task_id: str, after: str, heartbeat_s: float | None = None
) -> AsyncGenerator[JobUpdate | Chunk | None, None]:
    """The changes of a job (``hub.py``), and its chunks behind `after` if it streams. Every chunk comes before the last
    update. None where nothing has changed for `heartbeat_s`.

    Raises:
        RedisError, OSError: the store has not answered for a long time.
    """
    updates = hub_of(app).changes(task_id, heartbeat_s)
    reader: _Reader | None = None
    update_due: asyncio.Future[Any] = asyncio.ensure_future(anext(updates))
    chunks_due: asyncio.Future[list[Chunk]] | None = None
    try:
        while True:
            await asyncio.wait([one for one in (update_due, chunks_due) if one], return_when=asyncio.FIRST_COMPLETED)
            if reader is not None and chunks_due is not None and chunks_due.done():
                for chunk in chunks_due.result():
                    yield chunk
                chunks_due = asyncio.ensure_future(reader.some())
            if not update_due.done():
                continue
            update = update_due.result()
            if update is not None and update.streamed and reader is None:
                reader = _Reader(_hub_of(app), app, task_id, after)
            if update is not None and update.ended:
                if chunks_due is not None:
                    await _over(chunks_due)
                while reader is not None and (rest := await reader.rest()):
                    for chunk in rest:
                        yield chunk
                yield update
                return
            yield update
            update_due = asyncio.ensure_future(anext(updates))
            if reader is not None and chunks_due is None:
                chunks_due = asyncio.ensure_future(reader.some())
    finally:
        for one in (update_due, chunks_due):
            if one is not None:
                await _over(one)
        if reader is not None:
            reader.leave()
        await updates.aclose()  # type: ignore[attr-defined]


async def _over(waiting: asyncio.Future[Any]) -> None:
    """Stop waiting for something; what it has raised was seen, or is not needed any more."""
    waiting.cancel()
    await asyncio.wait([waiting])
    if not waiting.cancelled():
        waiting.exception()
