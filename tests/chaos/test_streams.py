"""A worker's child is killed while it fetches chunks, which RunPod gives once: no hole becomes a success."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from celery_runpod import JobResult
from celery_runpod.errors import StreamIncomplete
from tasks.crash_points import Step
from tests.chaos.conftest import SHORT_WAITS
from tests.servers import World
from tests.waiting import eventually

WORDS = 40
HANDLER = """
import time, runpod


def handler(job):
    for number in range({words}):
        time.sleep(0.15)
        yield number


runpod.serverless.start({{"handler": handler, "return_aggregate_stream": {whole}}})
"""
EACH = [Step.STREAM_BEGUN, Step.STREAM_TAKEN, Step.STREAM_KEPT]


@pytest.fixture(scope="module")
def streams(tmp_path_factory: pytest.TempPathFactory, die_at: Path) -> Iterator[World]:
    """Endpoints: `parts`, whose result is its chunks; `whole`, of which RunPod keeps the whole output too."""
    folder = tmp_path_factory.mktemp("streams")
    for name, whole in (("parts", False), ("whole", True)):
        (folder / f"{name}.py").write_text(HANDLER.format(words=WORDS, whole=whole))
    endpoints = [f"{name}={folder / name}.py,workers=1" for name in ("parts", "whole")]
    with World(folder, endpoints=endpoints, env={**SHORT_WAITS, "RUNPOD_DIE_AT": str(die_at)}) as world:
        yield world.start()


def read(result: JobResult) -> tuple[list[Any], list[str], Exception | None]:
    """Outputs, the other events, and the error at the end."""
    outputs: list[Any] = []
    events: list[str] = []
    try:
        for chunk in result.stream(timeout=120):
            if chunk.event == "chunk":
                outputs.append(chunk.output)
            else:
                events.append(chunk.event)
    except StreamIncomplete as error:
        return outputs, events, error
    return outputs, events, None


@pytest.mark.parametrize("name", ["parts", "whole"])
@pytest.mark.parametrize("step", EACH, ids=str)
def test_a_kill_loses_no_chunk_unseen(streams: World, die_at: Path, step: Step, name: str) -> None:
    result = streams.endpoint(name, stream=True).delay(mark=uuid.uuid4().hex)
    following = result.stream(timeout=120)
    assert next(following).output == 0
    die_at.write_text(step)
    eventually(die_at.exists, False, within_s=60)
    outputs, events, error = read(result)
    assert outputs == sorted(set(outputs)) and outputs[0] == 0
    if step is Step.STREAM_KEPT:
        assert (outputs, events, error) == (list(range(WORDS)), [], None)
    else:
        assert events == ["gap"]
    if name == "whole" or step is Step.STREAM_KEPT:
        assert result.get(timeout=60) == list(range(WORDS)) and error is None
    else:
        assert isinstance(error, StreamIncomplete)
        with pytest.raises(StreamIncomplete):
            result.get(timeout=60)
    eventually(streams.open_jobs, [], within_s=90)


def test_a_whole_worker_killed_while_it_fetches_is_a_gap(streams: World, die_at: Path) -> None:
    result = streams.endpoint("whole", stream=True).delay(mark=uuid.uuid4().hex)
    assert next(result.stream(timeout=120)).output == 0
    die_at.write_text(f"{Step.STREAM_TAKEN} all")
    eventually(die_at.exists, False, within_s=60)
    streams.stack.worker("after", concurrency=2)
    outputs, events, error = read(result)
    assert events == ["gap"] and error is None and outputs == sorted(set(outputs))
    assert result.get(timeout=60) == list(range(WORDS))
    eventually(streams.open_jobs, [], within_s=90)


def test_chunks_that_redis_has_lost_are_a_gap_and_no_success(streams: World) -> None:
    result = streams.endpoint("parts", stream=True).delay(mark=uuid.uuid4().hex)
    following = result.stream(timeout=120)
    keys = [f"{{runpod:parts}}:{kind}:{result.id}" for kind in ("job", "stream")]
    with Redis.from_url(streams.redis_url) as redis:
        while next(following).output < 5:
            pass
        then = [redis.dump(key) for key in keys]
        while next(following).output < 10:
            pass
        with redis.pipeline() as pipe:
            for key, held in zip(keys, then, strict=True):
                pipe.restore(key, 3_600_000, held, replace=True)
            pipe.execute()
        redis.persist(keys[0])
    outputs, events, error = read(result)
    assert "gap" in events and outputs == sorted(set(outputs)) and len(outputs) < WORDS
    assert isinstance(error, StreamIncomplete)
    with pytest.raises(StreamIncomplete):
        result.get(timeout=60)
    eventually(streams.open_jobs, [], within_s=90)


def test_an_outage_costs_no_chunk_of_the_jobs_that_wait(streams: World) -> None:
    runs, *waiting = [streams.endpoint("parts", stream=True).delay(mark=uuid.uuid4().hex) for _ in range(3)]
    assert next(runs.stream(timeout=120)).output == 0
    streams.fault(operation="stream", kind="status", status=503)
    fault = streams.fault(operation="status", kind="status", status=503)
    eventually(lambda: streams.happened(fault) > 1, True, within_s=60)
    streams.no_faults()
    outputs, events, error = read(runs)
    assert outputs == sorted(set(outputs)) and (error is None) is (events == [])
    assert [result.get(timeout=120) for result in waiting] == [list(range(WORDS))] * 2
    eventually(streams.open_jobs, [], within_s=90)
