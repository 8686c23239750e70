"""Messages that are no calls, as other languages and attackers put them into a queue: each ends, or is put aside."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from celery.exceptions import NotRegistered

from celery_runpod.errors import ConfigurationError, InvalidInput, InvalidOption, RunPodError
from tests.hostile.harm import end_of, no_harm, typed, typed_or_aside, worker_logs
from tests.hostile.messages import body, deep, envelope, put, send
from tests.servers import World

SECRET = "PATIENT Jane Doe hf_token=hf_abcdef"
REFUSED = (InvalidInput, InvalidOption, ConfigurationError)

WRONG_ARGUMENTS = (
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
)
NO_BODIES = (
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
)
NO_SIGNATURES = (
    '{"callbacks": ["x"]}',
    '{"callbacks": [3]}',
    '{"callbacks": "x"}',
    '{"callbacks": [{"task": 3}]}',
    '{"errbacks": ["x", 7]}',
    '{"chain": ["x"]}',
    '{"chain": [{"args": []}]}',
    '{"chord": "x"}',
    '{"chord": {"task": null}}',
)
WRONG_HEADERS: tuple[dict[str, Any], ...] = (
    {"retries": "many"},
    {"eta": "tomorrow"},
    {"expires": "yesterday"},
    {"timelimit": ["a", {}]},
    {"group": 3},
    {"root_id": {"a": 1}},
    {"parent_id": ["x"]},
    {"stamped_headers": 3},
    {"replaced_task_nesting": "x"},
    {"runpod_issued_at": "today"},
)


def test_arguments_of_a_wrong_kind(world: World) -> None:
    with no_harm(world):
        for text in WRONG_ARGUMENTS:
            typed(world, send(world, text), *REFUSED, what=text)


def test_bodies_that_are_none(world: World) -> None:
    with no_harm(world):
        for text in NO_BODIES:
            typed_or_aside(world, send(world, text), Exception, what=text)


def test_no_value_of_a_refused_call_stands_in_a_log_or_an_error(world: World) -> None:
    with no_harm(world):
        ids = [
            send(world, body(kwargs=json.dumps({"endpoint": "fast", "prompt": SECRET}))),
            send(world, body(kwargs=json.dumps({"endpoint": "fast", "fields": SECRET}))),
            send(world, body(kwargs=json.dumps({"endpoint": "fast", "options": {"prompt": SECRET}}))),
            send(world, body(kwargs=json.dumps({"endpoint": "fast", "options": {"deadline": SECRET}}))),
            send(world, body(kwargs=json.dumps({"endpoint": "fast", "options": SECRET}))),
            send(world, body(args=json.dumps([SECRET, {"a": 1}]))),
        ]
        for task_id in ids:
            error = typed(world, task_id, *REFUSED)
            assert "hf_" not in repr(error) and "hf_" not in str(error)
    assert "hf_" not in worker_logs(world)


def test_a_link_that_is_no_signature_is_refused_before_it_costs(world: World) -> None:
    with no_harm(world):
        for embed in NO_SIGNATURES:
            typed(world, send(world, body(embed=embed)), RunPodError, what=embed)


def test_headers_of_a_wrong_kind(world: World) -> None:
    """Some can be left unread and the job run; what a header may not do is come back, or end the worker."""
    before = len(world.jobs())
    with no_harm(world, submits=None):
        for headers in WRONG_HEADERS:
            typed_or_aside(world, send(world, body(), **headers), Exception, dict, what=repr(headers))
        # No result is asked for, so that there is none to look at.
        send(world, body(), ignore_result="maybe")
    # The good job is one more.
    assert len(world.jobs()) - before <= len(WRONG_HEADERS) + 2


ENTRIES = ("garbage", "{", "3", "null", "[]", "{}", '{"body": 3}', '{"body": "AAAA"}', deep(100_000), "\x00\x1b[2J")


@pytest.mark.parametrize("queue", ["runpod", "runpod.status", "runpod.deliver"])
def test_queue_entries_that_are_no_messages(world: World, queue: str) -> None:
    with no_harm(world):
        for text in ENTRIES:
            put(world.redis, text, queue)


def test_messages_of_other_content_types(world: World) -> None:
    """All of one task: where one of them can be read after all, its job runs once."""
    text, before = json.loads(envelope(body(), task_id=str(uuid.uuid4()))), len(world.jobs())
    with no_harm(world, submits=None):
        for kind in ("application/x-python-serialize", "application/x-yaml", "text/html", 3, None):
            put(world.redis, json.dumps({**text, "content-type": kind}))
        for encoding in ("rot13", 3, None):
            put(world.redis, json.dumps({**text, "content-encoding": encoding}))
    # The good job is one more.
    assert len(world.jobs()) - before <= 2


def test_an_unknown_task(world: World) -> None:
    task_id = str(uuid.uuid4())
    with no_harm(world):
        put(world.redis, envelope(body(), task="os.system", task_id=task_id))
        typed_or_aside(world, task_id, NotRegistered, RunPodError)


def test_tasks_whose_name_is_none(world: World) -> None:
    with no_harm(world):
        for task in (3, ["runpod.run"], {"a": 1}, ""):
            put(world.redis, envelope(body(), task_id=str(uuid.uuid4()), headers={"task": task}))


def test_messages_whose_id_is_none(world: World) -> None:
    """An id that is no text cannot be a task's; an empty one or a long one may be, and its job run."""
    before = len(world.jobs())
    with no_harm(world, submits=None):
        for task_id in (None, 3, ["x"], {"a": 1}, "", "x" * 100_000):
            put(world.redis, envelope(body(), task_id=None, headers={"id": task_id}))
    assert len(world.jobs()) - before <= 3


@pytest.mark.parametrize("task", ["runpod.finish", "runpod.check_status", "runpod.cancel"])
def test_our_own_tasks_with_arguments_of_others(world: World, task: str) -> None:
    queue = "runpod.status" if task == "runpod.check_status" else "runpod.deliver"
    with no_harm(world):
        for args in ("[]", '["x"]', '["fast", 3, [], {}]', f"[{deep(500)}]"):
            put(world.redis, envelope(body(args=args, kwargs="{}"), task=task, task_id=str(uuid.uuid4())), queue)


def test_an_input_of_nine_megabytes_goes_through(world: World) -> None:
    with no_harm(world, submits=1):
        big = json.dumps([{"text": "x" * 9_000_000}])
        assert end_of(world, send(world, body(args=big, kwargs='{"endpoint": "small"}'))) == "x" * 10


def test_an_input_over_the_bound_is_refused_whoever_sends_it(world: World) -> None:
    with no_harm(world):
        big = json.dumps([{"text": "x" * 11_000_000}])
        error = typed(world, send(world, body(args=big, kwargs='{"endpoint": "small"}')), InvalidInput)
        assert "xxx" not in str(error)
