"""All who watch jobs in one event loop: one thread looks for all of them, over one Redis connection.

A watcher is woken when its job has changed, and reads how it stands then: what came between is left out. So a slow reader
costs no memory, and thousands of watchers of one job cost one look.

Not here: what a look is (``job_reader.py``).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from celery import Celery
from redis.exceptions import RedisError

from celery_runpod._connect import store_unavailable
from celery_runpod._live.job_reader import JobReader
from celery_runpod._live.job_update import JobUpdate
from celery_runpod._live.watching import LOOK_EVERY_S, PATIENCE_S

log = logging.getLogger(__name__)

T = TypeVar("T")

BATCH = 500
"""So many jobs are looked at in one round trip."""
LOOK_OF_EACH_S = 0.001
"""With thousands of jobs, looks come so much more slowly: their cost in time stays a part of a core."""

Look = Callable[[Sequence[str]], Mapping[str, JobUpdate]]


class _Topic:
    """One job, and who waits for its changes."""

    def __init__(self) -> None:
        self.watchers = 0
        self.latest: JobUpdate | None = None
        self.changed = asyncio.Event()
        self.failed: Exception | None = None

    def wake(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()


class UpdateHub:
    """The watchers of one event loop. `look` runs in a thread of the hub's own; `forget` gets the id of a job that
    nobody watches any more; `idle` is called when none is left."""

    def __init__(
        self,
        look: Look,
        forget: Callable[[str], None] = lambda _: None,
        idle: Callable[[], None] = lambda: None,
        *,
        every_s: float = LOOK_EVERY_S,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._look, self._forget, self._idle = look, forget, idle
        self._every_s, self._patience_s = every_s, patience_s
        self._topics: dict[str, _Topic] = {}
        self._new = asyncio.Event()
        self._runner: asyncio.Task[None] | None = None

    async def changes(self, task_id: str, heartbeat_s: float | None = None) -> AsyncIterator[JobUpdate | None]:
        """How the job stands now, and then each change, until it has ended. None where nothing has changed for
        `heartbeat_s`.

        Raises:
            RedisError, OSError: the store has not answered for a long time.
        """
        topic = self._topics.setdefault(task_id, _Topic())
        if topic.latest is None:
            self._new.set()
        topic.watchers += 1
        try:
            last: JobUpdate | None = None
            while last is None or not last.ended:
                self._run()
                changed = topic.changed
                if topic.failed is not None:
                    raise topic.failed
                if topic.latest is not None and topic.latest.differs(last):
                    last = topic.latest
                    yield last
                    continue
                try:
                    await asyncio.wait_for(changed.wait(), heartbeat_s)
                except TimeoutError:
                    yield None
        finally:
            topic.watchers -= 1
            if not topic.watchers:
                self._topics.pop(task_id, None)
                self._forget(task_id)

    def _run(self) -> None:
        """Have the jobs looked at, from now on until nobody watches."""
        if self._runner is None:
            self._runner = asyncio.get_running_loop().create_task(self._look_on())

    async def _look_on(self) -> None:
        loop = asyncio.get_running_loop()
        # One thread, so that one connection serves all.
        thread = ThreadPoolExecutor(1, thread_name_prefix="runpod-watch")
        answered_at, next_at = loop.time(), 0.0
        failed: Exception | None = None
        try:
            while self._topics:
                self._new.clear()
                every = loop.time() >= next_at
                if every:
                    next_at = loop.time() + max(self._every_s, LOOK_OF_EACH_S * len(self._topics))
                wanted = [
                    task_id
                    for task_id, topic in self._topics.items()
                    if topic.latest is None or (every and not topic.latest.ended)
                ]
                try:
                    for start in range(0, len(wanted), BATCH):
                        self._tell(await loop.run_in_executor(thread, self._look, wanted[start : start + BATCH]))
                    answered_at = loop.time()
                except (RedisError, OSError) as error:
                    if loop.time() - answered_at >= self._patience_s:
                        failed = error
                        return
                    # Those whose first look failed wait for the next one too.
                    await asyncio.sleep(max(0.0, next_at - loop.time()))
                    continue
                try:
                    await asyncio.wait_for(self._new.wait(), max(0.0, next_at - loop.time()))
                except TimeoutError:
                    pass
        except Exception as error:
            log.exception("watch.failed")
            failed = error
        finally:
            thread.shutdown(wait=False)
            self._runner = None
            for topic in self._topics.values():
                topic.failed = failed
                topic.wake()
            self._idle()

    def _tell(self, updates: Mapping[str, JobUpdate]) -> None:
        for task_id, update in updates.items():
            topic = self._topics.get(task_id)
            if topic is None:
                continue
            differs = update.differs(topic.latest)
            topic.latest = update
            if differs:
                topic.wake()


_hubs: dict[tuple[asyncio.AbstractEventLoop, Celery], UpdateHub] = {}
"""Those in which somebody watches."""


def hub_of(app: Celery) -> UpdateHub:
    """The hub of the running event loop for this app."""
    key = (asyncio.get_running_loop(), app)
    if key not in _hubs:
        job_reader = JobReader(app)
        _hubs[key] = UpdateHub(
            lambda ids: job_reader.read(ids, time.time()),  # noqa: TID251 - the edge
            job_reader.forget,
            lambda: _drop(key),
        )
    return _hubs[key]


def _drop(key: tuple[asyncio.AbstractEventLoop, Celery]) -> None:
    _hubs.pop(key, None)


async def until_over(
    app: Celery, begin: Callable[[], AsyncIterator[T | None]], timeout_s: float | None
) -> AsyncGenerator[T, None]:
    """What an iterator gives that is begun here, without its heartbeats, until it ends or the time is over.

    Raises:
        BrokerUnavailable: the job store has not answered for half a minute.
    """
    loop = asyncio.get_running_loop()
    over_at = None if timeout_s is None else loop.time() + timeout_s
    found = begin()
    try:
        while True:
            left = None if over_at is None else over_at - loop.time()
            try:
                async with asyncio.timeout(left):
                    one = await anext(found)
            except (StopAsyncIteration, TimeoutError):
                return
            if one is not None:
                yield one
    except (RedisError, OSError) as error:
        raise store_unavailable(app, error) from None
    finally:
        await found.aclose()  # type: ignore[attr-defined]
