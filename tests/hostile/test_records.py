"""Records that this version cannot read (a rolling upgrade, a downgrade, a slip of the hand) beside good ones."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from celery_runpod.errors import RunPodError
from celery_runpod.results import JobResult
from tests.hostile.harm import aside, command, end_of, no_harm, typed, typed_or_aside
from tests.servers import World

GOLDEN = Path(__file__).parent.parent / "golden" / "format-1"
UNREADABLE: dict[str, dict[str, str | bytes]] = {
    "bytes that are no text": {"input": b'{"mark": "\xff\xfe"}'},
    "an unknown option": {"options": '{"nope": 1}'},
    "options that are none": {"options": "[]"},
    "options that are no JSON": {"options": "{"},
    "an unknown state": {"state": "MELTED"},
    "an input that is no JSON": {"input": "{"},
    "an input too deep": {"input": "[" * 5_000 + "]" * 5_000},
    "a time that is none": {"end_by": "soon"},
    "an attempt that is none": {"attempt": "x"},
    "a continuation that is none": {"continuation": "x"},
    "a continuation too deep": {"continuation": "[" * 5_000 + "]" * 5_000},
    "a link that is no signature": {"continuation": '{"task": "runpod.finish", "options": {"link": ["x"]}}'},
}


def plant(world: World, changed: Mapping[str, str | bytes], name: str, index: str) -> str:
    """A record of another version with some fields changed, to be looked at now; answers its task id."""
    task_id = f"planted-{uuid.uuid4()}"
    record = json.loads((GOLDEN / name).read_text().replace(f"golden-{name.removesuffix('.json')}", task_id))
    world.redis.zadd("runpod:endpoints", {"fast": 0})
    world.redis.set(f"runpod:task:{task_id}", json.dumps({"endpoint": "fast", "root": task_id}))
    world.redis.hset(f"{{runpod:fast}}:job:{task_id}", mapping={**record, **changed})
    world.redis.zadd(f"{{runpod:fast}}:{index}", {task_id: float(record["accepted_at"])})
    return task_id


def drop(world: World, task_ids: list[str]) -> None:
    """Where one was put aside, an operator drops it, and its task ends too."""
    dropped = [task_id for task_id in task_ids if not JobResult(task_id, app=world.app()).ready()]
    for task_id in dropped:
        answer = command(world, "jobs", "--drop", task_id)
        assert answer.returncode == 0, answer.stderr
    for task_id in dropped:
        typed(world, task_id, RunPodError)
    left = aside(world)
    assert [task_id for task_id in dropped if task_id in left] == []


@pytest.mark.parametrize(("name", "index"), [("waiting.json", "due"), ("completed.json", "undelivered")])
def test_unreadable_records_keep_no_good_job_from_its_end(world: World, name: str, index: str) -> None:
    with no_harm(world, submits=None):
        before = len(world.jobs())
        marks = [uuid.uuid4().hex for _ in range(10)]
        early = {mark: world.endpoint("fast").delay(mark=mark) for mark in marks[:5]}
        planted = {
            what: plant(world, {"input": '{"mark": "planted"}', **changed}, name, index)
            for what, changed in UNREADABLE.items()
        }
        late = {mark: world.endpoint("fast").delay(mark=mark) for mark in marks[5:]}
        ends: dict[str, Any] = {mark: end_of(world, result.id) for mark, result in {**early, **late}.items()}
        assert ends == {mark: {"mark": mark} for mark in marks}
        for what, task_id in planted.items():
            # What can be read without the field that is wrong may as well have its output.
            typed_or_aside(world, task_id, RunPodError, dict, what=what)
        drop(world, list(planted.values()))
        assert len(world.jobs()) - before <= len(marks) + len(planted)


def test_a_task_that_fails_each_time_it_is_delivered_ends(world: World) -> None:
    with no_harm(world, submits=None):
        wrong = {
            "continuation": json.dumps({"task": "runpod.finish", "args": 3, "kwargs": [], "options": {"chain": 7}})
        }
        task_id = plant(world, wrong, "completed.json", "undelivered")
        typed_or_aside(world, task_id, RunPodError)
        drop(world, [task_id])
