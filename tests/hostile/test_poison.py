"""JSON that is nested deeper than a process can hand on: each message ends alone, with prefork and with threads."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator

import pytest
from celery import chain, chord
from celery.exceptions import ChordError

from celery_runpod.errors import ConfigurationError, InvalidInput, InvalidOption, RunPodError
from tests.application import collect, same
from tests.hostile.application import nested
from tests.hostile.conftest import servers_of, start_workers
from tests.hostile.harm import WAIT_S, end_of, no_harm, revive, typed, typed_or_aside
from tests.hostile.messages import body, deep, envelope, put, send
from tests.servers import World
from tests.waiting import eventually

REFUSED = (InvalidInput, InvalidOption, ConfigurationError)


@pytest.fixture(scope="module", params=["prefork", "threads"])
def pool(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory, pool: str) -> Iterator[World]:
    with servers_of(tmp_path_factory.mktemp("poison"), prepare=lambda world: start_workers(world, pool)) as world:
        yield world


@pytest.fixture
def world(servers: World, pool: str) -> World:
    servers.app()
    revive(servers, lambda world: start_workers(world, pool))
    return servers


def test_an_input_of_64_levels_is_a_good_one(world: World) -> None:
    with no_harm(world, submits=1):
        # The input itself is the first level.
        assert end_of(world, send(world, body(args=f'[{{"deep": {deep(63)}}}]'))) == {"deep": json.loads(deep(63))}


def test_a_deep_input_is_refused(world: World) -> None:
    with no_harm(world):
        ids = {levels: send(world, body(args=f'[{{"deep": {deep(levels)}}}]')) for levels in (70, 500, 900)}
        for levels, task_id in ids.items():
            assert "64" in str(typed(world, task_id, InvalidInput, what=f"{levels} levels"))


def test_an_input_deeper_than_python_reads_is_refused_or_put_aside(world: World) -> None:
    with no_harm(world):
        ids = {levels: send(world, body(args=f'[{{"deep": {deep(levels)}}}]')) for levels in (5_000, 100_000)}
        for levels, task_id in ids.items():
            typed_or_aside(world, task_id, InvalidInput, what=f"{levels} levels")


def test_depth_elsewhere_in_the_arguments(world: World) -> None:
    with no_harm(world):
        for where in ("fields", "options", "unknown"):
            kwargs = f'{{"endpoint": "fast", "{where}": {{"x": {deep(500)}}}}}'
            typed(world, send(world, body(kwargs=kwargs)), *REFUSED)


def test_depth_in_what_hangs_on_a_call(world: World) -> None:
    with no_harm(world):
        parts = ("callbacks", "errbacks", "chain", "chord")
        ids = {where: send(world, body(embed=f'{{"{where}": [{deep(500)}]}}')) for where in parts}
        for where, task_id in ids.items():
            typed_or_aside(world, task_id, RunPodError, what=where)


def test_depth_in_a_header(world: World) -> None:
    with no_harm(world):
        for levels in (500, 5_000):
            text = envelope(body(), task_id=(task_id := str(uuid.uuid4())), headers={"extra": "HERE"})
            put(world.redis, text.replace('"HERE"', deep(levels)))
            typed_or_aside(world, task_id, RunPodError)


def test_a_deep_result_of_the_task_before(world: World) -> None:
    # Not deeper: the user's own worker would end of it.
    with no_harm(world):
        for levels in (70, 150):
            result = chain(nested.s(levels), world.endpoint("fast").s(mark="m")).delay()
            typed(world, result.id, InvalidInput)


def test_a_caller_is_told_the_path(world: World) -> None:
    value = json.loads(deep(70))
    with no_harm(world):
        for call in (world.endpoint("fast").delay, world.endpoint("fast").s):
            with pytest.raises(InvalidInput, match=r"pictures\[0\]"):
                call({"pictures": value})
        with pytest.raises(InvalidInput, match=r"pictures\[0\]"):
            world.endpoint("fast").delay(pictures=value)


def test_a_member_of_a_chord_that_is_poison_fails_the_chord(world: World) -> None:
    bad = world.app().signature("runpod.run", args=[{"deep": json.loads(deep(500))}], kwargs={"endpoint": "fast"})
    bad.set(queue="runpod")
    with no_harm(world, submits=2):
        good = [world.endpoint("fast").s(mark=uuid.uuid4().hex) for _ in range(2)]
        result = chord([good[0], bad, good[1]], collect.s()).apply_async()
        typed(world, result.id, ChordError, InvalidInput)


def test_a_poison_step_ends_its_chain(world: World) -> None:
    bad = world.app().signature("runpod.run", args=[{"deep": json.loads(deep(150))}], kwargs={"endpoint": "fast"})
    bad.set(queue="runpod", immutable=True)
    with no_harm(world):
        result = chain(same.s(1), bad, same.s()).apply_async()
        typed(world, result.parent.id, InvalidInput)
        eventually(lambda: result.state, "FAILURE", within_s=WAIT_S)


def test_a_flood_of_poison_keeps_no_good_job_from_its_end(world: World) -> None:
    marks = [uuid.uuid4().hex for _ in range(10)]
    with no_harm(world, submits=10):
        results = []
        for mark in marks:
            for _ in range(20):
                send(world, body(args=f"[{deep(500)}]"))
            results.append(world.endpoint("fast").delay(mark=mark))
        assert [end_of(world, result.id) for result in results] == [{"mark": mark} for mark in marks]


def test_a_worker_that_is_started_on_a_queue_of_poison_comes_up(world: World, pool: str) -> None:
    for server in [one for one in world.stack.servers if one.name.startswith("runpod")]:
        world.stack.remove(server)
        server.log.unlink()
    ids = [send(world, body(args=f"[{deep(levels)}]")) for levels in (70, 500, 900, 5_000)]
    start_workers(world, pool, application=False)
    with no_harm(world):
        for task_id in ids:
            typed_or_aside(world, task_id, InvalidInput)
