"""A reader gets each chunk once, goes on where it stopped, and gets a gap where chunks are missing."""

from __future__ import annotations

import asyncio
import json
import threading
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from celery import states
from redis.exceptions import ConnectionError as RedisConnectionError

from celery_runpod import Chunk, JobResult, errors, results
from celery_runpod._live import chunk_hub, chunks, job_reader, update_hub
from celery_runpod._live.chunk_hub import MOST_RECENT, ChunkHub
from celery_runpod._live.chunks import Cursor
from celery_runpod._live.job_reader import Notes
from celery_runpod._store.streams import START, Entry
from celery_runpod.options import Options
from tests.builders import ENDPOINT, Bench

STREAMED = Options(deadline=600.0, stream=True)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    made = Bench()
    for module in (results, job_reader, chunks):
        monkeypatch.setattr(module, "store_of", lambda app: made.store)
    monkeypatch.setattr(results, "notes", Notes())
    monkeypatch.setattr(update_hub, "LOOK_EVERY_S", 0.01)
    made.store.workers.heartbeat("runpod@host", 4_000_000_000.0, 3600.0)
    return made


def accepted(bench: Bench, task_id: str = "t1", options: Options = STREAMED) -> None:
    bench.accepted(task_id, options=options)


def yields(bench: Bench, *texts: str, task_id: str = "t1", gap: bool = False) -> None:
    """What a worker keeps after a look at RunPod."""
    job, token = bench.record(task_id), str(uuid.uuid4())
    assert bench.store.streams.begin_look(job, token, bench.now, bench.now + 10) == "begun"
    assert bench.store.streams.end_look(job, token, texts, bench.now, gap=gap) == "kept"


def ends(bench: Bench, error: Exception | None = None, task_id: str = "t1") -> None:
    """A worker delivers the job."""
    state, result = (states.SUCCESS, "done") if error is None else (states.FAILURE, error)
    job = bench.record(task_id)
    bench.redis.hset(bench.store.keys.job(ENDPOINT, task_id), mapping={"state": "COMPLETED", "outcome": "{}"})
    bench.app.backend.store_result(task_id, result, state)
    kept = {"stream": str(bench.store.streams.ended(job))}
    assert bench.store.mark_delivered(ENDPOINT, task_id, (), bench.now, kept) == "delivered"


def read(bench: Bench, after: str | None = None, task_id: str = "t1") -> list[Any]:
    """What a reader gets until the end: outputs, and the events that are none."""
    return [shown(one) for one in JobResult(task_id, app=bench.app).stream(after, timeout=10)]


def shown(chunk: Chunk) -> Any:
    return chunk.output if chunk.event == "chunk" else chunk.event


def test_every_reader_gets_every_chunk_and_goes_on_where_it_stood(bench: Bench) -> None:
    accepted(bench)
    yields(bench, '"a"', '{"b": 1}')
    first = next(iter(JobResult("t1", app=bench.app).stream()))
    assert (first.output, first.attempt, first.event) == ("a", 1, "chunk")
    yields(bench, '"c"')
    ends(bench)
    assert read(bench) == read(bench) == ["a", {"b": 1}, "c"]
    assert read(bench, after=first.id) == [{"b": 1}, "c"]


def test_a_chunk_is_there_while_the_job_runs(bench: Bench) -> None:
    accepted(bench)
    yields(bench, "1")
    found = JobResult("t1", app=bench.app).stream(timeout=10)
    assert next(found).output == 1
    yields(bench, "2")
    assert next(found).output == 2
    ends(bench)
    assert list(found) == []


def test_the_jobs_error_comes_after_its_last_chunk(bench: Bench) -> None:
    accepted(bench)
    yields(bench, "1")
    ends(bench, errors.JobFailed("boom", "sdxl", "t1"))
    found = JobResult("t1", app=bench.app).stream()
    assert next(found).output == 1
    with pytest.raises(errors.JobFailed, match="boom"):
        next(found)


def test_a_gap_and_a_retry_are_told(bench: Bench) -> None:
    accepted(bench)
    yields(bench, '"a"', gap=True)
    bench.redis.hset(bench.store.keys.job(ENDPOINT, "t1"), "attempt", "2")
    yields(bench, '"A"')
    ends(bench)
    found = list(JobResult("t1", app=bench.app).stream())
    assert [shown(one) for one in found] == ["a", "gap", "retry", "A"]
    assert [one.attempt for one in found] == [1, 1, 2, 2]


def test_what_was_dropped_from_a_full_stream_is_a_gap(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("celery_runpod._store.streams.MOST_CHUNKS", 2)
    accepted(bench)
    yields(bench, "1")
    first = next(iter(JobResult("t1", app=bench.app).stream()))
    yields(bench, "2", "3", "4")
    ends(bench)
    assert read(bench) == ["gap", 3, 4]
    assert read(bench, after=first.id) == ["gap", 3, 4]


def test_chunks_that_are_kept_no_longer_are_a_gap(bench: Bench) -> None:
    accepted(bench)
    yields(bench, "1")
    ends(bench)
    bench.redis.delete(bench.store.keys.stream(ENDPOINT, "t1"))
    assert read(bench) == ["gap"]


def test_a_handler_that_yields_nothing_is_no_gap(bench: Bench) -> None:
    accepted(bench)
    ends(bench)
    assert read(bench) == []


def test_a_call_without_stream_says_so(bench: Bench) -> None:
    accepted(bench, options=Options(deadline=600.0))
    with pytest.raises(errors.InvalidOption, match="without using"):
        read(bench)


@pytest.mark.parametrize("after", ["", "1", "0-0-0", "a-b", 7, "9" * 30 + "-0", "\u0661-\u0660"])
def test_what_is_no_chunks_id_is_refused_at_once(bench: Bench, after: Any) -> None:
    with pytest.raises(errors.InvalidOption, match="the id of a Chunk"):
        JobResult("t1", app=bench.app).stream(after)


def test_a_time_that_is_over_is_no_end(bench: Bench) -> None:
    accepted(bench)
    yields(bench, "1")
    found = JobResult("t1", app=bench.app).stream(timeout=0.1)
    assert next(found).output == 1
    with pytest.raises(errors.ResultTimeout):
        next(found)


# In an event loop


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(30):
            await test()

    asyncio.run(bounded())


def test_in_an_event_loop_hundreds_read_with_two_threads(bench: Bench) -> None:
    accepted(bench)
    yields(bench, "0")
    threads: set[int] = set()
    source = bench.store.streams
    original = source.read

    def counted(*args: Any, **more: Any) -> Any:
        threads.add(threading.get_ident())
        return original(*args, **more)

    source.read = counted  # type: ignore[method-assign]

    async def test() -> None:
        got: list[list[Any]] = [[] for _ in range(300)]

        async def reader(into: list[Any]) -> None:
            async for chunk in JobResult("t1", app=bench.app).astream(timeout=20):
                into.append(shown(chunk))

        tasks = [asyncio.create_task(reader(into)) for into in got]
        while any(len(into) < 1 for into in got):
            await asyncio.sleep(0.01)
        yields(bench, "1", "2")
        while any(len(into) < 3 for into in got):
            await asyncio.sleep(0.01)
        ends(bench)
        await asyncio.gather(*tasks)
        assert got == [[0, 1, 2]] * 300

    run(test)
    assert len(threads) <= 2
    assert chunk_hub._hubs == {}


def test_in_an_event_loop_the_error_comes_after_the_last_chunk(bench: Bench) -> None:
    accepted(bench)
    yields(bench, "1", "2")
    ends(bench, errors.JobFailed("boom", "sdxl", "t1"))

    async def test() -> None:
        found = JobResult("t1", app=bench.app).astream()
        assert [(await anext(found)).output for _ in range(2)] == [1, 2]
        with pytest.raises(errors.JobFailed, match="boom"):
            await anext(found)

    run(test)


def test_in_an_event_loop_a_time_that_is_over_is_no_end(bench: Bench) -> None:
    accepted(bench)
    yields(bench, "1")

    async def test() -> None:
        found = JobResult("t1", app=bench.app).astream(timeout=0.3)
        assert (await anext(found)).output == 1
        with pytest.raises(errors.ResultTimeout):
            await anext(found)

    run(test)
    assert chunk_hub._hubs == {}


BIG = json.dumps("x" * 300_000)


def test_readers_who_come_late_get_big_chunks_a_little_at_a_time(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [f"t{number}" for number in range(6)]
    for task_id in jobs:
        accepted(bench, task_id)
        yields(bench, *[BIG] * 5, task_id=task_id)
    source, original, sizes = bench.store.streams, bench.store.streams.read, []

    def weighed(*args: Any, **more: Any) -> Any:
        found = original(*args, **more)
        sizes.append(sum(len(entry.text) for entries in found.values() for entry in entries))
        return found

    monkeypatch.setattr(source, "read", weighed)

    async def test() -> None:
        async def reads(task_id: str) -> int:
            found = [chunk async for chunk in JobResult(task_id, app=bench.app).astream(timeout=20)]
            return sum(chunk.event == "chunk" for chunk in found)

        tasks = [asyncio.create_task(reads(task_id)) for task_id in jobs]
        while sum(sizes) < len(jobs) * 5 * len(BIG):
            await asyncio.sleep(0.01)
        for task_id in jobs:
            ends(bench, task_id=task_id)
        assert await asyncio.gather(*tasks) == [5] * len(jobs)

    run(test)
    assert max(sizes) == len(BIG)
    assert sum(sizes) == len(jobs) * 5 * len(BIG), "each chunk is read once"
    sizes.clear()
    assert [len(one) for one in read(bench)] == [300_000] * 5
    assert max(sizes) == len(BIG)


def test_small_chunks_are_read_in_few_round_trips(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    accepted(bench)
    yields(bench, *["1"] * 1_000)
    ends(bench)
    source, original, counts = bench.store.streams, bench.store.streams.read, []

    def counted(*args: Any, **more: Any) -> Any:
        counts.append(more["count"])
        return original(*args, **more)

    monkeypatch.setattr(source, "read", counted)
    assert len(read(bench)) == 1_000
    assert counts == [1, 8, 64, 500, 500, 500]


def test_who_is_read_for_keeps_no_new_chunk_from_the_others(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    accepted(bench, "late")
    yields(bench, "0", task_id="late")
    accepted(bench, "now")
    yields(bench, "0", task_id="now")
    source, original = bench.store.streams, bench.store.streams.read
    begun, go_on = threading.Event(), threading.Event()

    def slow_for_one(places: Any, **more: Any) -> Any:
        places = list(places)
        if [one for one in places if one[1:] == ("late", START)]:
            begun.set()
            assert go_on.wait(20)
        return original(places, **more)

    monkeypatch.setattr(source, "read", slow_for_one)

    async def test() -> None:
        now = JobResult("now", app=bench.app).astream(timeout=20)
        assert (await anext(now)).output == 0
        late = asyncio.ensure_future(anext(JobResult("late", app=bench.app).astream(timeout=20)))
        try:
            while not begun.is_set():
                await asyncio.sleep(0.01)
            yields(bench, "1", task_id="now")
            assert (await anext(now)).output == 1
        finally:
            go_on.set()
        assert (await late).output == 0

    run(test)


FORGED = "9999999999999999999-0"
"""Behind all that will ever be yielded."""


def test_a_reader_at_a_place_that_is_none_keeps_nothing_from_the_others(bench: Bench) -> None:
    accepted(bench)
    yields(bench, "0")

    async def test() -> None:
        async def reads(after: str | None, into: list[Any]) -> None:
            async for chunk in JobResult("t1", app=bench.app).astream(after, timeout=20):
                into.append(shown(chunk))

        forged: list[Any] = []
        honest: list[Any] = []
        tasks = [asyncio.create_task(reads(FORGED, forged))]
        while not any(made._topics for made in chunk_hub._hubs.values()):
            await asyncio.sleep(0.01)
        tasks.append(asyncio.create_task(reads(None, honest)))
        while not honest:
            await asyncio.sleep(0.01)
        yields(bench, "1")
        # Not by the job's end alone: then everybody is read for from the store.
        while honest != [0, 1]:
            await asyncio.sleep(0.01)
        ends(bench)
        await asyncio.gather(*tasks)
        assert (forged, honest) == (["gap"], [0, 1])

    run(test)


def entry(number: int) -> Entry:
    return Entry(f"{number}-0", "0.1", 1, number, "chunk", str(number))


class Kept:
    """A stream of one job, read by the hub; a test adds to it."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.away = 0
        self.reads = 0

    def read(self, places: Any, *, count: int = 500, block_s: float = 0.0) -> dict[Any, list[Entry]]:
        self.reads += 1
        if self.away:
            self.away -= 1
            raise RedisConnectionError("away")
        found = {}
        for endpoint, task_id, after in places:
            known = int(after.partition("-")[0])
            if more := [one for one in self.entries if one.number > known][:count]:
                found[endpoint, task_id] = more
        return found

    def newest(self, places: Any) -> dict[Any, Entry | None]:
        if self.away:
            self.away -= 1
            raise RedisConnectionError("away")
        return dict.fromkeys(places, self.entries[-1] if self.entries else None)

    def holds(self, endpoint: str, task_id: str, entry_id: str) -> Entry | None:
        return next((one for one in self.entries if one.id == entry_id), None)

    def noted(self, endpoint: str, task_id: str) -> int:
        return len(self.entries)


def test_a_reader_who_is_far_behind_is_read_for_and_the_others_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunk_hub, "AGAIN_S", 0.01)
    kept = Kept()
    kept.away = 2

    async def test() -> None:
        made = ChunkHub(kept, every_s=0.001)
        for _ in range(2):
            made.enter()
            made.join(("e", "t"))
        kept.entries = [entry(1)]
        (one,) = await made.entries(("e", "t"), Cursor(START))
        assert one.id == "1-0"
        many = MOST_RECENT + 50
        kept.entries = [entry(number) for number in range(1, many + 1)]
        quick = Cursor("1-0")
        while quick.after != f"{many}-0":
            quick.take(await made.entries(("e", "t"), quick))
        assert len(made._topics[("e", "t")].recent) == MOST_RECENT
        slow = Cursor(START)
        got: list[Any] = []
        while slow.after != f"{many}-0":
            got += [chunk.output for chunk in slow.take(await made.entries(("e", "t"), slow))]
        assert got == list(range(1, many + 1))
        for _ in range(2):
            made.leave(("e", "t"))

    run(test)
