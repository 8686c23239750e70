"""RunPod's API in trouble: refused, rate limited, cut, silent, garbled. No job fails for it, and none is paid twice."""

from __future__ import annotations

import uuid

import pytest

from celery_runpod.errors import SubmissionUnconfirmed
from tests.servers import World
from tests.waiting import eventually


def _run(world: World, mark: str) -> object:
    return world.endpoint("fast").delay(mark=mark).get(timeout=120)


@pytest.fixture(autouse=True)
def _without_faults_afterwards(chaos: World):
    yield
    chaos.no_faults()
    eventually(chaos.open_jobs, [], within_s=90)


@pytest.mark.parametrize(
    "fault",
    [
        {"operation": "run", "kind": "status", "status": 429, "headers": {"Retry-After": "1"}, "times": 2},
        {"operation": "run", "kind": "status", "status": 429, "body": "<html>slow down</html>", "times": 2},
        {"operation": "status", "kind": "status", "status": 429, "times": 3},
        {"operation": "status", "kind": "status", "status": 502, "body": "<html>Bad gateway</html>", "times": 3},
        {"operation": "status", "kind": "drop_before", "times": 2},
        {"operation": "status", "kind": "drop_after", "times": 2},
        {"operation": "status", "kind": "truncate", "times": 2},
        {"operation": "status", "kind": "body", "body": "not json", "times": 2},
        {"operation": "status", "kind": "body", "body": "[]", "times": 2},
        {"operation": "status", "kind": "delay", "seconds": 4, "times": 1},
        {"operation": "status", "kind": "status", "status": 404, "body": '{"error": "job not found"}', "times": 1},
        {
            "operation": "status",
            "kind": "status",
            "status": 302,
            "headers": {"Location": "http://127.0.0.1:9"},
            "times": 1,
        },
        {"operation": "run", "kind": "delay", "seconds": 1, "times": 1},
    ],
    ids=lambda fault: f"{fault['operation']}-{fault['kind']}-{fault.get('status', fault.get('body', ''))}",
)
def test_the_job_is_done_once(chaos: World, fault: dict[str, object]) -> None:
    mark = uuid.uuid4().hex
    chaos.fault(endpoint="fast", **fault)
    assert _run(chaos, mark) == {"mark": mark}
    assert len(chaos.submits(mark)) == 1


@pytest.mark.parametrize(
    ("fault", "taken"),
    [
        ({"kind": "drop_after"}, 1),
        ({"kind": "drop_before"}, 0),
        ({"kind": "status", "status": 502, "body": "<html>Bad gateway</html>"}, 0),
        ({"kind": "truncate"}, 1),
        ({"kind": "body", "body": "{}"}, None),
        ({"kind": "delay", "seconds": 4}, None),
    ],
    ids=lambda value: str(value.get("kind")) if isinstance(value, dict) else "",
)
def test_a_lost_answer_to_a_submit_is_never_followed_by_a_second_one(
    chaos: World, fault: dict[str, object], taken: int | None
) -> None:
    mark = uuid.uuid4().hex
    chaos.fault(endpoint="fast", operation="run", times=1, **fault)
    with pytest.raises(SubmissionUnconfirmed):
        _run(chaos, mark)
    assert len(chaos.submits(mark)) in ({0, 1} if taken is None else {taken})
