"""RunPod's API in trouble: refused, rate limited, cut, silent, garbled. No job fails for it, and none is paid twice."""

from __future__ import annotations

import uuid

import pytest

from celery_runpod.errors import SubmissionUnconfirmed
from celery_runpod.results import JobResult
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


LOST = {
    "drop_after": ({"kind": "drop_after"}, {1}),
    "drop_before": ({"kind": "drop_before"}, {0}),
    "status": ({"kind": "status", "status": 502, "body": "<html>Bad gateway</html>"}, {0}),
    "truncate": ({"kind": "truncate"}, {1}),
    "body": ({"kind": "body", "body": "{}"}, {0, 1}),
    "delay": ({"kind": "delay", "seconds": 4}, {0, 1}),
}
"""A fault by which the answer to a submit is lost, and how often RunPod may have the job then."""


@pytest.fixture(scope="module")
def lost(chaos: World) -> dict[str, tuple[str, JobResult]]:
    """Mark and result of one call for each fault. All are sent before any is waited for, so that their windows
    (RUNPOD_UNCONFIRMED_WINDOW_S) close in the same time. A good job in between ends the pause after each trouble."""
    sent = {}
    for name, (fault, _) in LOST.items():
        mark = uuid.uuid4().hex
        rule = chaos.fault(endpoint="fast", operation="run", times=1, **fault)
        sent[name] = mark, chaos.endpoint("fast").delay(mark=mark)
        eventually(lambda rule=rule: chaos.happened(rule), 1, within_s=60)
        assert _run(chaos, f"after {mark}") == {"mark": f"after {mark}"}
    return sent


@pytest.mark.parametrize("fault", LOST)
def test_a_lost_answer_to_a_submit_is_never_followed_by_a_second_one(
    chaos: World, lost: dict[str, tuple[str, JobResult]], fault: str
) -> None:
    mark, result = lost[fault]
    with pytest.raises(SubmissionUnconfirmed):
        result.get(timeout=120)
    assert len(chaos.submits(mark)) in LOST[fault][1]
