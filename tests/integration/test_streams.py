"""Chunks on their way from a handler to readers and pages: real Redis, workers, the SDK's handlers on the simulator."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
import requests
from celery import chain

from celery_runpod import Endpoint, JobResult, errors
from celery_runpod._devstack.stack import Server
from tests.application import same
from tests.servers import World
from tests.waiting import eventually

WAIT_S = 90
READERS = 300
HANDLER = """
import asyncio, runpod


async def handler(job):
    for word in job["input"]["text"].split():
        await asyncio.sleep(job["input"].get("seconds", 0.1))
        if word == "boom":
            raise ValueError("no more words")
        yield word


runpod.serverless.start({"handler": handler, "concurrency_modifier": lambda current: 20})
"""


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("streams")
    (folder / "parts.py").write_text(HANDLER)
    endpoints = [f"parts={folder / 'parts.py'},workers=1", "whole=examples/handlers/generator.py"]
    with World(folder, endpoints=endpoints) as world:
        yield world.start()


def parts(world: World, **options: Any) -> Endpoint:
    return Endpoint("parts", app=world.app()).using(**options)


def words(result: JobResult, after: str | None = None) -> list[Any]:
    return [one.output if one.event == "chunk" else one.event for one in result.stream(after, timeout=WAIT_S)]


def test_the_result_is_the_list_of_the_chunks_and_the_chain_goes_on(world: World) -> None:
    flow = chain(parts(world, stream=True).s(text="once upon a time"), same.s()).delay()
    assert words(JobResult(flow.parent.id)) == ["once", "upon", "a", "time"]
    assert flow.get(timeout=WAIT_S) == ["once", "upon", "a", "time"]


@pytest.mark.parametrize("stream", [True, None])
def test_a_generator_without_aggregation_never_gives_an_empty_list(world: World, stream: bool | None) -> None:
    assert parts(world, stream=stream).delay(text="a b c").get(timeout=WAIT_S) == ["a", "b", "c"]


@pytest.mark.parametrize("stream", [True, None])
def test_runpod_may_hold_more_chunks_than_one_answer_brings(world: World, stream: bool | None) -> None:
    fault = world.fault(operation="stream", kind="part")
    assert parts(world, stream=stream).delay(text="a b c d", seconds=0).get(timeout=WAIT_S) == ["a", "b", "c", "d"]
    assert world.happened(fault) > 3


def test_a_generator_called_by_runsync_gives_its_chunks(world: World) -> None:
    assert parts(world, sync=True).delay(text="a b").get(timeout=WAIT_S) == ["a", "b"]


def test_a_generator_with_aggregation_is_streamed_too(world: World) -> None:
    result = Endpoint("whole", app=world.app()).using(stream=True).delay(text="a b c", seconds=0.05)
    assert words(result) == result.get(timeout=WAIT_S) == ["a", "b", "c"]


def test_chunks_come_while_the_job_runs_and_a_reader_goes_on_where_it_stood(world: World) -> None:
    result = parts(world, stream=True).delay(text="one two three four", seconds=0.7)
    found = result.stream(timeout=WAIT_S)
    first, second = next(found), next(found)
    assert (first.output, second.output) == ("one", "two")
    assert not result.ready()
    assert words(JobResult(result.id), after=first.id) == ["two", "three", "four"]
    assert [chunk.output for chunk in found] == ["three", "four"]


def test_a_handler_that_fails_does_so_after_its_last_chunk(world: World) -> None:
    found = parts(world, stream=True).delay(text="a b boom c").stream(timeout=WAIT_S)
    assert [next(found).output for _ in range(2)] == ["a", "b"]
    with pytest.raises(errors.JobFailed, match="no more words"):
        next(found)


def test_a_job_that_is_cancelled_ends_its_stream(world: World) -> None:
    result = parts(world, stream=True).delay(text=" ".join("x" * 200), seconds=0.2)
    found = result.stream(timeout=WAIT_S)
    assert next(found).output == "x"
    result.cancel()
    with pytest.raises(errors.JobCancelled):
        list(found)


def test_answers_that_are_cut_are_a_gap_and_never_a_wrong_success(world: World) -> None:
    result = parts(world, stream=True).delay(text=" ".join(map(str, range(40))), seconds=0.1)
    found = result.stream(timeout=WAIT_S)
    assert next(found).output == "0"
    fault = world.fault(operation="stream", kind="truncate", times=1)
    eventually(lambda: world.happened(fault), 1, within_s=WAIT_S)
    with pytest.raises(errors.StreamIncomplete):
        list(found)
    with pytest.raises(errors.StreamIncomplete):
        result.get(timeout=WAIT_S)
    # A reader who comes later gets the gap too.
    again, events = result.stream(timeout=WAIT_S), []
    while "gap" not in events:
        events.append(next(again).event)


# Pages


class Page:
    """One open page: the events that have come, and the id of the last one."""

    def __init__(self, task_id: str, last: str = "") -> None:
        self.task_id, self.last = task_id, last
        self.events: list[tuple[str, dict[str, Any]]] = []

    async def read(self, port: int, chunks: int | None = None) -> None:
        """Read until the end, or until so many chunks have come."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        again = f"Last-Event-ID: {self.last}\r\n" if self.last else ""
        path = f"/runpod/job/events?task={self.task_id}"
        writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{again}\r\n".encode())
        name = ""
        while line := (await reader.readline()).decode():
            kind, _, value = line.strip().partition(": ")
            if kind == "id":
                self.last = value
            elif kind == "event":
                name = value
            elif kind == "data":
                self.events.append((name, json.loads(value)))
                if self.events[-1][1].get("ended") or (chunks and len(self.words) == chunks):
                    break
        writer.close()

    @property
    def words(self) -> list[Any]:
        return [data["output"] for name, data in self.events if name == "chunk"]


def to_redis(server: Server, world: World) -> int:
    """How many connections to Redis a process has."""
    port = int(world.redis_url.rpartition(":")[2].partition("/")[0])
    found = psutil.Process(server.process.pid).net_connections("tcp")
    return sum(bool(one.raddr) and one.raddr.port == port and one.status == "ESTABLISHED" for one in found)


def test_hundreds_of_pages_get_each_chunk_over_three_connections(world: World, django: tuple[Server, int]) -> None:
    server, port = django
    text = [str(number) for number in range(30)]
    results = [parts(world, stream=True).delay(text=" ".join(text), seconds=0.4) for _ in range(5)]
    pages = [Page(results[number % len(results)].id) for number in range(READERS)]
    most = 0

    async def test() -> None:
        nonlocal most
        async with asyncio.timeout(WAIT_S):
            reading = []
            for start in range(0, READERS, 50):
                reading += [asyncio.create_task(page.read(port)) for page in pages[start : start + 50]]
                await asyncio.sleep(0.1)
            while not all(task.done() for task in reading):
                most = max(most, await asyncio.to_thread(to_redis, server, world))
                await asyncio.sleep(0.2)
            await asyncio.gather(*reading)

    asyncio.run(test())
    assert all(page.words == text for page in pages)
    assert all(page.events[-1][0] == "update" and page.events[-1][1]["ended"] for page in pages)
    assert 1 <= most <= 3, "one for the jobs, one for new chunks, one for those who come late"


def test_a_browser_that_lost_its_connection_gets_each_chunk_once(world: World, django: tuple[Server, int]) -> None:
    _, port = django
    result = parts(world, stream=True).delay(text="a b c d e f", seconds=0.4)
    page = Page(result.id)

    async def test() -> None:
        async with asyncio.timeout(WAIT_S):
            await page.read(port, chunks=2)
            await page.read(port)

    asyncio.run(test())
    assert page.words == ["a", "b", "c", "d", "e", "f"]
    again = requests.get(
        f"http://127.0.0.1:{port}/runpod/job/events",
        params={"task": result.id},
        headers={"Last-Event-ID": page.last},
        timeout=30,
    )
    assert (again.status_code, again.content) == (204, b"")
