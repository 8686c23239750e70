"""Many watchers in one event loop: one thread looks for all, and nobody is kept waiting by another."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from celery_runpod._live import update_hub as hub_module
from celery_runpod._live.job_update import JobUpdate
from celery_runpod._live.update_hub import BATCH, UpdateHub


class Jobs:
    """What a look finds; a test changes it."""

    def __init__(self) -> None:
        self.now: dict[str, JobUpdate] = {}
        self.away: Exception | None = None
        self.asked: Counter[str] = Counter()
        self.sizes: list[int] = []
        self.threads: set[int] = set()
        self.forgotten: list[str] = []

    def say(self, task_id: str, state: str, **more: Any) -> None:
        self.now[task_id] = JobUpdate(task_id, state, **more)

    def look(self, ids: Sequence[str]) -> dict[str, JobUpdate]:
        self.threads.add(threading.get_ident())
        self.sizes.append(len(ids))
        self.asked.update(ids)
        if self.away is not None:
            raise self.away
        return {one: self.now.get(one, JobUpdate(one, "PENDING")) for one in ids}


@pytest.fixture
def jobs() -> Jobs:
    return Jobs()


def hub_for(jobs: Jobs, **options: Any) -> UpdateHub:
    return UpdateHub(jobs.look, jobs.forgotten.append, **{"every_s": 0.01, **options})


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(30):
            await test()

    asyncio.run(bounded())


async def states(found: AsyncIterator[JobUpdate | None], into: list[str]) -> None:
    async for update in found:
        if update is not None:
            into.append(update.state)


def looking_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("runpod-watch")]


async def until(seen: Callable[[], bool]) -> None:
    while not seen():
        await asyncio.sleep(0.005)


def test_a_watcher_sees_each_change_and_then_the_end(jobs: Jobs) -> None:
    async def test() -> None:
        seen: list[str] = []
        watcher = asyncio.create_task(states(hub_for(jobs).changes("t1"), seen))
        for state in ("PENDING", "IN_QUEUE", "IN_PROGRESS"):
            jobs.say("t1", state)
            await until(lambda state=state: seen[-1:] == [state])  # type: ignore[misc]
        jobs.say("t1", "SUCCESS", ended=True)
        await watcher
        assert seen == ["PENDING", "IN_QUEUE", "IN_PROGRESS", "SUCCESS"]
        assert jobs.forgotten == ["t1"]

    run(test)


def test_all_watchers_share_one_thread_and_each_job_one_look(jobs: Jobs) -> None:
    async def test() -> None:
        hub = hub_for(jobs, every_s=3600)
        seen: list[list[str]] = [[] for _ in range(300)]
        watchers = [asyncio.create_task(states(hub.changes(f"t{n % 3}"), into)) for n, into in enumerate(seen)]
        await until(lambda: all(seen))
        assert len(jobs.threads) == 1 and set(jobs.asked.values()) == {1}
        for watcher in watchers:
            watcher.cancel()
        await asyncio.gather(*watchers, return_exceptions=True)
        assert sorted(jobs.forgotten) == ["t0", "t1", "t2"]

    run(test)


def test_thousands_of_jobs_are_looked_at_in_batches(jobs: Jobs) -> None:
    async def test() -> None:
        hub = hub_for(jobs, every_s=3600)
        watchers = [asyncio.create_task(states(hub.changes(f"t{n}"), [])) for n in range(BATCH + 10)]
        await until(lambda: len(jobs.asked) == BATCH + 10)
        assert max(jobs.sizes) <= BATCH
        for watcher in watchers:
            watcher.cancel()
        await asyncio.gather(*watchers, return_exceptions=True)

    run(test)


def test_a_slow_reader_gets_the_latest_and_keeps_nobody(jobs: Jobs) -> None:
    async def test() -> None:
        hub = hub_for(jobs)
        slow = hub.changes("t1")
        first = await anext(slow)
        quick: list[str] = []
        watcher = asyncio.create_task(states(hub.changes("t1"), quick))
        for number in range(20):
            jobs.say("t1", "IN_PROGRESS", progress=number)
            await until(lambda number=number: len(quick) == number + 2)  # type: ignore[misc]
        late = await anext(slow)
        assert first is not None and first.state == "PENDING"
        assert late is not None and late.progress == 19
        jobs.say("t1", "SUCCESS", ended=True)
        await watcher
        await slow.aclose()  # type: ignore[attr-defined]

    run(test)


def test_silence_is_broken_by_heartbeats(jobs: Jobs) -> None:
    async def test() -> None:
        found = hub_for(jobs).changes("t1", heartbeat_s=0.02)
        while await anext(found) is None:
            pass  # on a busy machine the first look may come after the first heartbeat
        assert [await anext(found), await anext(found)] == [None, None]
        await found.aclose()  # type: ignore[attr-defined]

    run(test)


def test_an_ended_job_is_not_looked_at_again(jobs: Jobs) -> None:
    async def test() -> None:
        hub = hub_for(jobs)
        jobs.say("done", "SUCCESS", ended=True)
        done = hub.changes("done")
        assert await anext(done) is not None
        other = asyncio.create_task(states(hub.changes("open"), []))
        await until(lambda: jobs.asked["open"] > 5)
        assert jobs.asked["done"] == 1
        other.cancel()
        await asyncio.gather(other, return_exceptions=True)
        await done.aclose()  # type: ignore[attr-defined]

    run(test)


def test_without_watchers_nothing_is_looked_at(jobs: Jobs) -> None:
    async def test() -> None:
        idle: list[bool] = []
        hub = hub_for(jobs, idle=lambda: idle.append(True))
        found = hub.changes("t1")
        await anext(found)
        await found.aclose()  # type: ignore[attr-defined]
        await until(lambda: bool(idle))
        await until(lambda: not looking_threads())
        # It begins again with the next watcher.
        found = hub.changes("t1")
        assert await anext(found) is not None
        await found.aclose()  # type: ignore[attr-defined]

    run(test)


def test_a_store_that_is_away_is_waited_for_and_then_an_error_for_all(jobs: Jobs) -> None:
    async def test() -> None:
        hub = hub_for(jobs, patience_s=3600)
        seen: list[str] = []
        watcher = asyncio.create_task(states(hub.changes("t1"), seen))
        await until(lambda: bool(seen))
        jobs.away = RedisConnectionError("away")
        before = jobs.asked["t1"]
        await until(lambda: jobs.asked["t1"] > before + 2)
        jobs.away = None
        jobs.say("t1", "SUCCESS", ended=True)
        await watcher
        assert seen == ["PENDING", "SUCCESS"]

        hub = hub_for(jobs, patience_s=0.05)
        jobs.away = RedisConnectionError("away")
        watchers = [asyncio.create_task(states(hub.changes(one), [])) for one in ("a", "a", "b")]
        found = await asyncio.gather(*watchers, return_exceptions=True)
        assert [type(one) for one in found] == [RedisConnectionError] * 3
        jobs.away = None
        again = hub.changes("a")
        assert await anext(again) is not None
        await again.aclose()  # type: ignore[attr-defined]

    run(test)


def test_awatch_leaves_nothing_of_its_loop(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    class JobReader:
        def __init__(self, app: Any) -> None:
            pass

        def read(self, ids: Sequence[str], now: float) -> dict[str, JobUpdate]:
            return jobs.look(ids)

        def forget(self, task_id: str) -> None:
            jobs.forgotten.append(task_id)

    monkeypatch.setattr(hub_module, "JobReader", JobReader)
    app: Any = object()

    async def test() -> None:
        def changes() -> Any:
            return hub_module.hub_of(app).changes("t1")

        seen = [update async for update in hub_module.until_over(app, changes, 0.05)]
        assert [(update.state, update.ended) for update in seen] == [("PENDING", False)]
        await until(lambda: not hub_module._hubs)
        jobs.say("t1", "SUCCESS", ended=True)
        seen = [update async for update in hub_module.until_over(app, changes, None)]
        assert [(update.state, update.ended) for update in seen] == [("SUCCESS", True)]

    run(test)
    assert hub_module._hubs == {}
