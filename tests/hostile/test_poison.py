"""Messages that no worker can use, as other languages and attackers send them: each ends alone, and nobody else waits."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from celery import chain, chord
from celery.exceptions import ChordError, NotRegistered

from celery_runpod.errors import ConfigurationError, InvalidInput, InvalidOption, RunPodError
from tests.application import collect, same
from tests.hostile.application import nested
from tests.hostile.conftest import servers_of, start_workers
from tests.hostile.harm import (
    WAIT_S,
    end_of,
    no_harm,
    revive,
    typed,
    typed_or_aside,
    worker_logs,
)
from tests.hostile.messages import body, deep, envelope, put
from tests.servers import World
from tests.waiting import eventually

SECRET = "PATIENT Jane Doe hf_token=hf_abcdef"
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


def send(world: World, text: str, task_id: str | None = None, **headers: Any) -> str:
    """Put a body into the queue by hand; answers the task id."""
    task_id = task_id or str(uuid.uuid4())
    put(world.redis, envelope(text, task_id=task_id, headers=headers))
    return task_id


# Depth


def test_an_input_of_64_levels_is_a_good_one(world: World) -> None:
    with no_harm(world, submits=1):
        # The input itself is the first level.
        assert end_of(world, send(world, body(args=f'[{{"deep": {deep(63)}}}]'))) == {"deep": json.loads(deep(63))}


@pytest.mark.parametrize("levels", [70, 500, 900])
def test_a_deep_input_is_refused(world: World, levels: int) -> None:
    with no_harm(world):
        error = typed(world, send(world, body(args=f'[{{"deep": {deep(levels)}}}]')), InvalidInput)
        assert "64" in str(error)


@pytest.mark.parametrize("levels", [5_000, 100_000])
def test_an_input_deeper_than_python_reads_is_refused_or_put_aside(world: World, levels: int) -> None:
    with no_harm(world):
        typed_or_aside(world, send(world, body(args=f'[{{"deep": {deep(levels)}}}]')), InvalidInput)


@pytest.mark.parametrize("where", ["fields", "options", "unknown"])
def test_depth_elsewhere_in_the_arguments(world: World, where: str) -> None:
    with no_harm(world):
        kwargs = f'{{"endpoint": "fast", "{where}": {{"x": {deep(500)}}}}}'
        typed(world, send(world, body(kwargs=kwargs)), *REFUSED)


@pytest.mark.parametrize("where", ["callbacks", "errbacks", "chain", "chord"])
def test_depth_in_what_hangs_on_a_call(world: World, where: str) -> None:
    with no_harm(world):
        typed_or_aside(world, send(world, body(embed=f'{{"{where}": [{deep(500)}]}}')))


@pytest.mark.parametrize("levels", [500, 5_000])
def test_depth_in_a_header(world: World, levels: int) -> None:
    text = envelope(body(), task_id=(task_id := str(uuid.uuid4())), headers={"extra": "HERE"})
    with no_harm(world):
        put(world.redis, text.replace('"HERE"', deep(levels)))
        typed_or_aside(world, task_id)


@pytest.mark.parametrize("levels", [70, 150])
def test_a_deep_result_of_the_task_before(world: World, levels: int) -> None:
    # Not deeper: the user's own worker would end of it.
    with no_harm(world):
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


# Arguments


@pytest.mark.parametrize(
    "text",
    [
        body(kwargs="{}"),
        body(kwargs='{"endpoint": 3}'),
        body(kwargs='{"endpoint": ["fast"]}'),
        body(kwargs='{"endpoint": "../pods"}'),
        body(kwargs='{"endpoint": "fast", "options": 3}'),
        body(kwargs='{"endpoint": "fast", "options": {"deadline": "soon"}}'),
        body(kwargs='{"endpoint": "fast", "fields": [1]}'),
        body(kwargs='{"endpoint": "fast", "not_before": {}}'),
        body(kwargs='{"endpoint": "fast", "format": "x"}'),
        body(args="[1, 2, 3]"),
        body(args='[{"a": NaN}]'),
        body(args='[{"a": 1e999}]'),
        body(args=r'[{"a": "\ud800"}]'),
    ],
    ids=lambda text: text[:60],
)
def test_arguments_of_a_wrong_kind(world: World, text: str) -> None:
    with no_harm(world):
        typed(world, send(world, text), *REFUSED)


@pytest.mark.parametrize(
    "text",
    [
        "3",
        '"text"',
        "[]",
        "[1]",
        "{}",
        "not JSON",
        "",
        '[{"a": 1}, [], {}]',
        '["text", {"endpoint": "fast"}, {}]',
        '[3, {"endpoint": "fast"}, {}]',
        '[[{}], "text", {}]',
        '[[{}], {"endpoint": "fast"}, "text"]',
        '[[{}], {"endpoint": "fast"}, [1]]',
    ],
)
def test_a_body_that_is_none(world: World, text: str) -> None:
    with no_harm(world):
        typed_or_aside(world, send(world, text), Exception)


def test_no_value_of_a_refused_call_stands_in_a_log_or_an_error(world: World) -> None:
    with no_harm(world):
        ids = [
            send(world, body(kwargs=json.dumps({"endpoint": "fast", "prompt": SECRET}))),
            send(world, body(kwargs=json.dumps({"endpoint": "fast", "fields": SECRET}))),
            send(world, body(kwargs=json.dumps({"endpoint": "fast", "options": {"prompt": SECRET}}))),
            send(world, body(kwargs=json.dumps({"endpoint": "fast", "options": {"deadline": SECRET}}))),
            send(world, body(args=json.dumps([SECRET, {"a": 1}]))),
        ]
        for task_id in ids:
            error = typed(world, task_id, *REFUSED)
            assert "hf_" not in repr(error) and "hf_" not in str(error)
    assert "hf_" not in worker_logs(world)
    assert not [key for key in world.redis.scan_iter("celery-task-meta-*") if "hf_" in (world.redis.get(key) or "")]


# What hangs on a call


@pytest.mark.parametrize(
    "embed",
    [
        '{"callbacks": ["x"]}',
        '{"callbacks": [3]}',
        '{"callbacks": "x"}',
        '{"callbacks": [{"task": 3}]}',
        '{"errbacks": ["x", 7]}',
        '{"chain": ["x"]}',
        '{"chain": [{"args": []}]}',
        '{"chord": "x"}',
        '{"chord": {"task": null}}',
    ],
)
def test_a_link_that_is_no_signature_is_refused_before_it_costs(world: World, embed: str) -> None:
    with no_harm(world):
        typed(world, send(world, body(embed=embed)), RunPodError)


@pytest.mark.parametrize(
    "headers",
    [
        {"retries": "many"},
        {"eta": "tomorrow"},
        {"expires": "yesterday"},
        {"timelimit": ["a", {}]},
        {"group": 3},
        {"root_id": {"a": 1}},
        {"parent_id": ["x"]},
        {"stamped_headers": 3},
        {"replaced_task_nesting": "x"},
        {"ignore_result": "maybe"},
        {"runpod_issued_at": "today"},
    ],
    ids=repr,
)
def test_headers_of_a_wrong_kind(world: World, headers: dict[str, Any]) -> None:
    before = len(world.jobs())
    task_id = str(uuid.uuid4())
    put(world.redis, envelope(body(), task_id=task_id, headers=headers))
    # Some can be left aside and the job run; what it may not do is come back, or end the worker.
    typed_or_aside(world, task_id, Exception, dict)
    with no_harm(world):
        pass
    assert len(world.jobs()) - before <= 2


def test_a_member_of_a_chord_that_is_poison_fails_the_chord(world: World) -> None:
    bad = world.app().signature("runpod.run", args=[{"deep": json.loads(deep(500))}], kwargs={"endpoint": "fast"})
    bad.set(queue="runpod")
    with no_harm(world, submits=2):
        good = [world.endpoint("fast").s(mark=uuid.uuid4().hex) for _ in range(2)]
        result = chord([good[0], bad, good[1]], collect.s()).apply_async()
        assert isinstance(typed(world, result.id, ChordError, InvalidInput), Exception)


def test_a_poison_step_ends_its_chain(world: World) -> None:
    bad = world.app().signature("runpod.run", args=[{"deep": json.loads(deep(500))}], kwargs={"endpoint": "fast"})
    bad.set(queue="runpod", immutable=True)
    with no_harm(world):
        result = chain(same.s(1), bad, same.s()).apply_async()
        typed(world, result.parent.id, InvalidInput)
        eventually(lambda: result.state, "FAILURE", within_s=WAIT_S)


# Messages


@pytest.mark.parametrize("text", ["garbage", "{", "3", "null", "[]", "{}", '{"body": 3}', deep(100_000), "\x00\x1b[2J"])
def test_a_queue_entry_that_is_no_message(world: World, text: str) -> None:
    with no_harm(world):
        put(world.redis, text)


def test_a_message_of_another_content_type(world: World) -> None:
    task_id = str(uuid.uuid4())
    text = json.loads(envelope(body(), task_id=task_id))
    with no_harm(world):
        for kind in ("application/x-python-serialize", "application/x-yaml", "text/html", 3, None):
            put(world.redis, json.dumps({**text, "content-type": kind}))


def test_an_unknown_task(world: World) -> None:
    task_id = str(uuid.uuid4())
    with no_harm(world):
        put(world.redis, envelope(body(), task="os.system", task_id=task_id))
        typed_or_aside(world, task_id, NotRegistered, RunPodError)


@pytest.mark.parametrize("task", [3, ["runpod.run"], {"a": 1}, ""])
def test_a_task_whose_name_is_none(world: World, task: Any) -> None:
    with no_harm(world):
        put(world.redis, envelope(body(), task_id=str(uuid.uuid4()), headers={"task": task}))


@pytest.mark.parametrize("task_id", [None, 3, ["x"], {"a": 1}, "", "x" * 100_000], ids=lambda one: repr(one)[:20])
def test_a_message_whose_id_is_none(world: World, task_id: Any) -> None:
    with no_harm(world):
        put(world.redis, envelope(body(), task_id=None, headers={"id": task_id}))


@pytest.mark.parametrize("task", ["runpod.finish", "runpod.check_status", "runpod.cancel"])
@pytest.mark.parametrize("args", ["[]", '["x"]', '["fast", 3, [], {}]', f"[{deep(500)}]"])
def test_our_own_tasks_with_arguments_of_others(world: World, task: str, args: str) -> None:
    queue = "runpod.status" if task == "runpod.check_status" else "runpod.deliver"
    with no_harm(world):
        put(world.redis, envelope(body(args=args, kwargs="{}"), task=task, task_id=str(uuid.uuid4())), queue)


def test_an_input_of_nine_megabytes_goes_through(world: World) -> None:
    with no_harm(world, submits=1):
        big = json.dumps([{"text": "x" * 9_000_000}])
        assert end_of(world, send(world, body(args=big, kwargs='{"endpoint": "small"}'))) == "x" * 10


def test_a_flood_of_poison_keeps_no_good_job_from_its_end(world: World) -> None:
    marks = [uuid.uuid4().hex for _ in range(20)]
    with no_harm(world, submits=20):
        results = []
        for mark in marks:
            for _ in range(25):
                send(world, body(args=f"[{deep(500)}]"))
            results.append(world.endpoint("fast").delay(mark=mark))
        assert [result.get(timeout=WAIT_S) for result in results] == [{"mark": mark} for mark in marks]
