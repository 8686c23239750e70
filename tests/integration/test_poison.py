"""Messages and outputs that are nested without end, or cannot be read, against real workers: the worker lives on, each
such task ends with a typed error, and the good job behind it succeeds."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from celery import chain
from celery.result import AsyncResult

from celery_runpod._protocol import FINISH, RUN
from celery_runpod._store.store import JobStore
from celery_runpod.errors import InvalidInput, JobFailed, OutputTooDeep, RunPodError
from tests.application import app, collect, same
from tests.servers import ROOT, World
from tests.waiting import eventually

WAIT_S = 60
DEEP = (70, 900, 100_000)


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


class Poisoned:
    """A world whose one worker has a pool of this kind."""

    def __init__(self, world: World, pool: str) -> None:
        self.world = world
        self.world.start(pool=pool)
        self.worker = next(server for server in self.world.stack.servers if server.name == "runpod0")
        self.application = next(server for server in self.world.stack.servers if server.name == "application")
        self.store = JobStore(self.world.redis, "runpod")

    def start_application(self) -> None:
        """The user's own worker, which is Celery's."""
        self.application = self.world.stack.application("tests.application", cwd=ROOT)

    def send(self, body: str, task: str = RUN, queue: str = "runpod", **headers: Any) -> str:
        """Put a message into a queue as another language would; answers its task id."""
        task_id = str(uuid.uuid4())
        whole = {"lang": "other", "task": task, "id": task_id, "root_id": task_id, **headers}
        self.world.redis.lpush(queue, json.dumps(self.envelope(body, queue, whole)))
        return task_id

    def envelope(self, body: str, queue: str, headers: dict[str, Any]) -> dict[str, Any]:
        return {
            "body": base64.b64encode(body.encode()).decode(),
            "content-type": "application/json",
            "content-encoding": "utf-8",
            "headers": headers,
            "properties": {
                "delivery_tag": str(uuid.uuid4()),
                "delivery_info": {"exchange": "", "routing_key": queue},
                "body_encoding": "base64",
            },
        }

    def result(self, task_id: str) -> Any:
        """What the task ended with: its error, or its output."""
        try:
            return AsyncResult(task_id, app=self.world.app()).get(timeout=WAIT_S)
        except RunPodError as error:
            return error

    def still_works(self) -> None:
        assert self.world.endpoint("fast").delay({"good": 1}).get(timeout=WAIT_S) is not None
        assert self.worker.process.poll() is None, self.worker.log.read_text()[-3000:]

    def aside(self) -> list[str]:
        return sorted(one.why for one in self.store.aside.messages_aside())


@pytest.fixture(scope="module", params=["prefork", "threads"])
def poisoned(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Poisoned]:
    with World(tmp_path_factory.mktemp("poisoned"), endpoints=("fast=synthetic:duration=0.2",)) as world:
        yield Poisoned(world, request.param)
        eventually(world.open_jobs, [], within_s=60)


@pytest.fixture(autouse=True)
def _lives_on(poisoned: Poisoned) -> Iterator[None]:
    yield
    poisoned.still_works()
    for one in poisoned.store.aside.messages_aside():
        assert poisoned.store.aside.take_message(one.id)


@pytest.mark.parametrize("depth", DEEP)
def test_a_call_whose_input_is_nested_without_end(poisoned: Poisoned, depth: int) -> None:
    positional = poisoned.send(f'[[{nested(depth)}], {{"endpoint": "fast"}}, {{}}]')
    fields = poisoned.send(f'[[], {{"endpoint": "fast", "fields": {{"a": {nested(depth)}}}}}, {{}}]')
    for task_id in (positional, fields):
        error = poisoned.result(task_id)
        assert isinstance(error, InvalidInput) and "nested deeper than 64 levels" in str(error)
        assert error.task_id == task_id or depth == 70
    assert poisoned.aside() == []


def test_what_hangs_on_a_poisoned_call_ends_too(poisoned: Poisoned) -> None:
    group, body_id = str(uuid.uuid4()), str(uuid.uuid4())
    app.backend.set_chord_size(group, 2)
    body = collect.s().set(task_id=body_id, queue="celery")
    embed = json.dumps({"callbacks": None, "errbacks": None, "chain": None, "chord": dict(body)})
    good = poisoned.send(f'[[{{"a": 1}}], {{"endpoint": "fast"}}, {embed}]', group=group, group_index=0)
    bad = poisoned.send(f'[[{nested(5_000)}], {{"endpoint": "fast"}}, {embed}]', group=group, group_index=1)
    assert isinstance(poisoned.result(bad), InvalidInput)
    assert not isinstance(poisoned.result(good), Exception)
    with pytest.raises(Exception, match="nested deeper than 64 levels"):
        AsyncResult(body_id, app=app).get(timeout=WAIT_S)


@pytest.mark.parametrize("depth", [300, 5_000, 100_000])
def test_a_canvas_that_is_nested_without_end_ends_the_task_by_its_id(poisoned: Poisoned, depth: int) -> None:
    link = f'{{"task": "tests.application.same", "args": [{nested(depth)}], "kwargs": {{}}, "options": {{}}}}'
    task_id = poisoned.send(f'[[{{"a": 1}}], {{"endpoint": "fast"}}, {{"callbacks": [{link}]}}]')
    error = poisoned.result(task_id)
    assert isinstance(error, InvalidInput) and "the message is nested deeper than 200 levels" in str(error)


def test_a_management_task_that_is_nested_without_end(poisoned: Poisoned) -> None:
    task_id = poisoned.send(f"[[{nested(5_000)}], {{}}, {{}}]", task="runpod.health", queue="runpod.deliver")
    assert isinstance(poisoned.result(task_id), InvalidInput)


def test_what_cannot_be_read_is_put_aside(poisoned: Poisoned) -> None:
    queue = "runpod"
    poisoned.world.redis.lpush(queue, "no JSON {", nested(100_000), "[1, 2, 3]", '{"properties": {}}')
    with_id = poisoned.send("no JSON")
    poisoned.send(f"[[{nested(5_000)}], {{}}, {{}}]", task="runpod.cancel", queue="runpod.deliver")
    poisoned.send("[[], {}, {}]", id=["no", "text"])
    deep_header = poisoned.send("[[], {}, {}]", deep=json.loads(nested(70)))
    poisoned.send("[[], {}, {}]", task=7)
    eventually(lambda: len(poisoned.aside()), 7, within_s=60)
    for task_id in (with_id, deep_header):
        assert isinstance(poisoned.result(task_id), InvalidInput)
    assert [one.id for one in poisoned.store.aside.messages_aside() if not one.readable]


def test_what_fits_no_task_is_refused_before_it_begins(poisoned: Poisoned) -> None:
    for args in ("[]", '["a", ["b"], 1]', '["a", "b\\ud800", 1]'):
        poisoned.send(f"[{args}, {{}}, {{}}]", task=FINISH, queue="runpod.deliver")
    poisoned.send("[[[1]], {}, {}]", task="runpod.cancel", queue="runpod.deliver", ignore_result=True)
    poisoned.send("[[null], {}, {}]", task="runpod.check_status", queue="runpod.status")
    health = poisoned.send('[["fast"], {"more": 1}, {}]', task="runpod.health", queue="runpod.deliver")
    call = poisoned.send('[[{"a": 1}], {"endpoint": "fast"}, {}]', timelimit=[1, "a"])
    assert "does not take these arguments" in str(poisoned.result(health))
    assert "the header 'timelimit' is a list" in str(poisoned.result(call))
    eventually(lambda: len(poisoned.aside()), 5, within_s=60)
    assert "task.requeued" not in poisoned.worker.log.read_text()


def broadcast_garbage(poisoned: Poisoned) -> None:
    """As events and as Celery's control commands: garbage, other types, commands and arguments that there are not. The
    user's own worker is ended before."""
    wrong = [
        *("[]", "5", "{}", "no JSON {", nested(5_000), '{"hostname": "x", "timestamp": "x", "clock": "y"}'),
        *('{"method": 5}', '{"method": "nothing"}', '{"method": "ping", "destination": 5}'),
        *('{"method": "ping", "arguments": 5}', '{"method": "ping", "arguments": {"more": 1}}'),
        *('{"method": "ping", "reply_to": 5}', '{"method": "ping", "matcher": "pcre", "pattern": "("}'),
        '{"method": "revoke", "arguments": {"task_id": {"a": [1]}}}',
        '{"method": "rate_limit", "arguments": {"task_name": [1], "rate_limit": {}}}',
        '{"method": "time_limit", "arguments": {"task_name": "runpod.run", "hard": "x"}}',
        '{"method": "pool_grow", "arguments": {"n": "x"}}',
        '{"method": "add_consumer", "arguments": {"queue": {}}}',
        '{"method": "cancel_consumer", "arguments": {"queue": [1]}}',
    ]
    # Celery's own worker ends by it (5.7).
    poisoned.world.stack.remove(poisoned.application)
    for channel in ("/0.celeryev/worker.heartbeat", "/0.celeryev/worker.online", "/0.celery.pidbox"):
        for body in wrong:
            poisoned.world.redis.publish(channel, json.dumps(poisoned.envelope(body, queue="", headers={})))
        for raw in ("garbage", "[1]", "{}", nested(100_000), b"\xff\xfe"):
            poisoned.world.redis.publish(channel, raw)
    ping = poisoned.world.app().control.ping
    eventually(lambda: len(ping(timeout=2.0)), 1, within_s=60)


def test_what_other_processes_broadcast_ends_no_worker(poisoned: Poisoned) -> None:
    broadcast_garbage(poisoned)
    poisoned.still_works()
    poisoned.start_application()


def test_an_output_nested_without_end_keeps_its_job_id(poisoned: Poisoned) -> None:
    fast = poisoned.world.endpoint("fast")
    for depth in (70, 600, 100_000):
        body = f'{{"status": "COMPLETED", "output": {nested(depth)}}}'
        poisoned.world.fault(kind="body", operation="status", body=body)
        with pytest.raises(OutputTooDeep) as caught:
            fast.delay({"a": 1}).get(timeout=WAIT_S)
        assert caught.value.job_id and caught.value.job_id in str(caught.value)
        poisoned.world.no_faults()
    poisoned.world.fault(kind="body", operation="status", body=f'{{"status": "FAILED", "error": {nested(600)}}}')
    with pytest.raises(JobFailed, match="nested deeper than 64 levels"):
        fast.delay({"a": 1}).get(timeout=WAIT_S)
    poisoned.world.no_faults()


def test_a_task_that_returns_a_deep_result_into_a_chain(poisoned: Poisoned) -> None:
    made: Any = 1
    for _ in range(100):
        made = [made]
    flow = chain(same.s(made), poisoned.world.endpoint("fast").s())
    with pytest.raises(InvalidInput, match="nested deeper than 64 levels"):
        flow.apply_async().get(timeout=WAIT_S)


def test_a_link_that_is_no_signature(poisoned: Poisoned) -> None:
    for embed in ('{"callbacks": "x"}', '{"errbacks": [7]}', '{"chord": [1]}', '{"chain": {"a": 1}}'):
        error = poisoned.result(poisoned.send(f'[[{{"a": 1}}], {{"endpoint": "fast"}}, {embed}]'))
        assert isinstance(error, InvalidInput) and "a signature is needed" in str(error)


# Its code is that of `threads`.
@pytest.mark.parametrize("poisoned", ["solo"], indirect=True)
def test_a_worker_that_runs_its_tasks_itself(poisoned: Poisoned) -> None:
    for depth in DEEP:
        assert isinstance(
            poisoned.result(poisoned.send(f'[[{nested(depth)}], {{"endpoint": "fast"}}, {{}}]')), InvalidInput
        )
    poisoned.world.redis.lpush("runpod", "no JSON {", nested(100_000))
    eventually(lambda: len(poisoned.aside()), 2, within_s=60)
    broadcast_garbage(poisoned)
