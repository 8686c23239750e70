"""All who read chunks in one event loop: one thread reads what is new for all of them, over one Redis connection.

The entries that come while a job is read are kept here for a moment, for all of its readers. Who stands further back is
read for from the store, a little at a time, in a second thread. The first one begins at the end of a job's stream,
whatever place a reader names: that may come from a browser, and be no place at all. So a slow reader costs no more memory
than what it is being sent, thousands of readers of one job cost one read, and those who come late delay nobody.

Not here: what a chunk is (``chunks.py``), and the changes of the job itself, of which a watcher gets the latest alone
(``update_hub.py``).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from celery import Celery
from redis.exceptions import RedisError

from celery_runpod._live.chunks import MOST_HELD_BYTES, Chunk, Cursor, Source, endpoint_of, source_of
from celery_runpod._live.job_update import JobUpdate
from celery_runpod._live.update_hub import hub_of
from celery_runpod._store.streams import BATCH, START, Entry

log = logging.getLogger(__name__)

READ_EVERY_S = 0.05
READ_OF_EACH_S = 0.0002
"""With hundreds of jobs, reads come so much more slowly: their cost in time stays a part of a core."""
MOST_RECENT = 200
MOST_RECENT_BYTES = MOST_HELD_BYTES
"""Of the entries of one job that are kept here for those who are a moment late."""
MOST_AT_ONCE, MOST_BYTES_AT_ONCE = 100, 1_000_000
"""What is new of so many jobs is read in one round trip: it is to come to about so many bytes."""
NEWEST_AT_ONCE = 10
"""A newest entry may be 1 MB."""
SMALL = 1_000
"""Entries count as so large at least; and where none was seen yet."""
AGAIN_S = 0.5
"""Before a store that did not answer is asked again."""

Place = tuple[str, str]
T = TypeVar("T")


class _Topic:
    """One job that is read: its latest entries, which begin behind `before`. Both ends are None until the store has said
    where the stream ends."""

    def __init__(self) -> None:
        self.readers = 0
        self.before: str | None = None
        self.tail: str | None = None
        self.recent: deque[Entry] = deque()
        self.bytes = 0
        self.largest = SMALL
        self.news = asyncio.Event()

    def begin(self, newest: Entry | None) -> None:
        """Its stream ends here."""
        self.before = self.tail = START if newest is None else newest.id
        self.largest = max(SMALL, 0 if newest is None else len(newest.text))
        self.wake()

    def add(self, entries: list[Entry]) -> None:
        self.largest = max(SMALL, self.largest // 2, *(len(entry.text) for entry in entries))
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
    """The readers of one event loop. `source` is used in threads of the hub's own; `idle` is called when none is
    left."""

    def __init__(
        self, source: Source, idle: Callable[[], None] = lambda: None, *, every_s: float = READ_EVERY_S
    ) -> None:
        self.source = source
        self._idle, self._every_s = idle, every_s
        self._topics: dict[Place, _Topic] = {}
        self._thread: ThreadPoolExecutor | None = None
        self._behind: ThreadPoolExecutor | None = None
        self._runner: asyncio.Task[None] | None = None
        self._failed: Exception | None = None
        self._users = 0

    def enter(self) -> None:
        """One more reader. The hub's threads live until the last one has left."""
        self._users += 1
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="runpod-chunks")
            self._behind = ThreadPoolExecutor(1, thread_name_prefix="runpod-chunks-behind")

    def leave(self, place: Place | None) -> None:
        """A reader has left; `place` is the job that it read, if it had come so far."""
        self._users -= 1
        if place is not None:
            self._topics[place].readers -= 1
            if not self._topics[place].readers:
                del self._topics[place]
        if not self._users:
            for threads in (self._thread, self._behind):
                if threads is not None:
                    threads.shutdown(wait=False)
            self._thread = self._behind = None
            self._idle()

    async def ask(self, what: Callable[..., T], *given: Any) -> T:
        """Ask the store something for one reader."""
        return await asyncio.get_running_loop().run_in_executor(self._behind, what, *given)

    async def _ask_for_all(self, what: Callable[..., T], *given: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, what, *given)

    def join(self, place: Place) -> None:
        """A reader reads this job from now on, until it leaves."""
        self._topics.setdefault(place, _Topic()).readers += 1
        if self._runner is None:
            self._runner = asyncio.get_running_loop().create_task(self._read_on())

    async def entries(self, place: Place, cursor: Cursor) -> list[Entry]:
        """Some of the entries behind a reader's place in a job that was joined; waits until there is one.

        Raises:
            RedisError, OSError: the store does not answer.
        """
        topic, after = self._topics[place], cursor.after
        while self._failed is None:
            news = topic.news
            if topic.before is None:
                await news.wait()
            elif _order(after) < _order(topic.before):
                if found := await self.ask(cursor.read, self.source, *place):
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
                again_s, began = max(self._every_s, READ_OF_EACH_S * len(self._topics)), loop.time()
                try:
                    await self._begin_new()
                    if await self._read_tails():
                        again_s = 0.0
                except (RedisError, OSError):
                    # Whether the store has been away too long is decided in `update_hub.py`, which watches the job.
                    again_s = AGAIN_S
                await asyncio.sleep(max(0.0, again_s - (loop.time() - began)))
        except Exception as error:
            log.exception("chunks.failed")
            self._failed = error
        finally:
            self._runner = None
            for topic in self._topics.values():
                topic.wake()

    async def _begin_new(self) -> None:
        """Find out where the streams end that were joined since the last time."""
        new = [place for place, topic in self._topics.items() if topic.tail is None]
        for start in range(0, len(new), NEWEST_AT_ONCE):
            found = await self._ask_for_all(self.source.newest, new[start : start + NEWEST_AT_ONCE])
            for place, newest in found.items():
                # It may have been left and joined again meanwhile.
                if (topic := self._topics.get(place)) is not None and topic.tail is None:
                    topic.begin(newest)

    async def _read_tails(self) -> bool:
        """Read what is new of each job. Returns whether there may be more of it already."""
        more = False
        for wanted, count in self._portions():
            found = await self._ask_for_all(partial(self.source.read, wanted, count=count))
            for place, entries in found.items():
                more = more or len(entries) >= count
                topic = self._topics.get(place)
                # One that was left and joined again meanwhile begins elsewhere.
                if topic is not None and (*place, topic.tail) in wanted:
                    topic.add(entries)
        return more

    def _portions(self) -> list[tuple[list[tuple[str, str, str]], int]]:
        """Which jobs to read in one round trip, and how many entries of each: about `MOST_BYTES_AT_ONCE` in all."""
        portions: list[tuple[list[tuple[str, str, str]], int]] = []
        wanted: list[tuple[str, str, str]] = []
        for place, topic in sorted(self._topics.items(), key=lambda one: one[1].largest):
            if topic.tail is None:
                continue
            # Of the jobs of one portion the last one has the largest entries.
            if not wanted or len(wanted) == MOST_AT_ONCE or (len(wanted) + 1) * topic.largest > MOST_BYTES_AT_ONCE:
                wanted = []
                portions.append((wanted, 1))
            wanted.append((*place, topic.tail))
            count = max(1, min(BATCH, MOST_BYTES_AT_ONCE // (len(wanted) * topic.largest)))
            portions[-1] = (wanted, count)
        return portions


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
        self._hub.join(self._place)

    async def some(self) -> list[Chunk]:
        """The next chunks; waits until there is one."""
        while self._place is None:
            try:
                await self.begin()
            except (RedisError, OSError):
                pass  # `update_hub.py`, which watches the job, decides whether the store has been away too long
            if self._place is None:
                await asyncio.sleep(AGAIN_S)
        while True:
            try:
                return self._cursor.take(await self._hub.entries(self._place, self._cursor))
            except (RedisError, OSError):
                await asyncio.sleep(AGAIN_S)

    async def rest(self) -> list[Chunk]:
        """The next chunks of a job that has ended, from the store; empty after the last one."""
        if self._place is None:
            await self.begin()
        if self._place is None:
            return []
        chunks = self._cursor.take(await self._hub.ask(self._cursor.read, self._hub.source, *self._place))
        return chunks or await self._hub.ask(self._cursor.end, self._hub.source, *self._place)

    def leave(self) -> None:
        self._hub.leave(self._place)


async def followed(
    app: Celery, task_id: str, after: str, heartbeat_s: float | None = None
) -> AsyncGenerator[JobUpdate | Chunk | None, None]:
    """The changes of a job (``update_hub.py``), and its chunks behind `after` if it streams. Each chunk comes before the
    last update. None where nothing has changed for `heartbeat_s`.

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
