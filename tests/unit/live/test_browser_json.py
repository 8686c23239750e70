"""What a browser gets of a job: JSON that it can parse, on one line, and nothing that is nobody's business."""

from __future__ import annotations

import json
import uuid
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from celery_runpod._live.browser_json import MOST_MESSAGE, MOST_PROGRESS, event_id, to_event, to_json
from celery_runpod._live.update import JobUpdate
from celery_runpod.errors import JobCancelled, JobFailed

RUNNING = JobUpdate("t1", "IN_PROGRESS", progress={"step": 3}, job_id="r1", seconds=12.345)


def strict(text: str) -> Any:
    """As a browser parses it: NaN and Infinity are no JSON."""

    def refuse(name: str) -> None:
        raise AssertionError(name)

    return json.loads(text, parse_constant=refuse)


def test_what_an_update_shows() -> None:
    step = JobUpdate("t0", "IN_QUEUE", "COLD_START", seconds=1.0)
    assert to_json(replace(RUNNING, step=step)) == {
        "task": "t1",
        "state": "IN_PROGRESS",
        "reason": None,
        "progress": {"step": 3},
        "seconds": 12.3,
        "ended": False,
        "error": None,
        "step": {
            "task": "t0",
            "state": "IN_QUEUE",
            "reason": "COLD_START",
            "progress": None,
            "seconds": 1.0,
            "ended": False,
            "error": None,
            "step": None,
        },
    }


@pytest.mark.parametrize(
    "progress",
    [
        "</script><script>alert(1)</script>",
        "one\nid: forged\nevent: update\ndata: {}\n\ntwo\r\rthree",
        "\u2028\u2029\x00\ud800",
        {"<b>": ["\n\n", {"deep": "data: x"}]},
        [float("nan"), float("inf"), -float("inf"), 1.5],
        {"at": datetime(2026, 1, 1, tzinfo=UTC), "id": uuid.UUID(int=1)},
        "x" * (MOST_PROGRESS + 1),
    ],
    ids=["html", "lines", "odd characters", "nested", "not finite", "no JSON", "huge"],
)
def test_an_event_is_one_event_whatever_the_progress_holds(progress: Any) -> None:
    lines = to_event(replace(RUNNING, progress=progress)).decode("ascii").split("\n")
    assert [line.split(":")[0] for line in lines] == ["id", "event", "data", "", ""]
    shown = strict(lines[2].removeprefix("data: "))
    assert shown["state"] == "IN_PROGRESS"
    if isinstance(progress, str) and len(progress) < 100:
        assert shown["progress"] == progress


def test_what_is_no_json_becomes_text_and_what_is_huge_is_left_out() -> None:
    shown = to_json(replace(RUNNING, progress=[float("nan"), uuid.UUID(int=1), True, None]))["progress"]
    assert shown == [None, str(uuid.UUID(int=1)), True, None]
    assert to_json(replace(RUNNING, progress=["x" * MOST_PROGRESS]))["progress"] is None


def test_the_id_is_of_the_news_and_not_of_the_time() -> None:
    later = replace(RUNNING, seconds=99.0, step=JobUpdate("t0", "IN_QUEUE", seconds=1.0))
    still_later = replace(later, seconds=100.0, step=JobUpdate("t0", "IN_QUEUE", seconds=2.0))
    assert event_id(RUNNING) == event_id(replace(RUNNING, seconds=50.0))
    assert event_id(later) == event_id(still_later) != event_id(RUNNING)
    assert event_id(replace(RUNNING, progress=4)) != event_id(RUNNING)
    assert event_id(replace(RUNNING, ended=True)).endswith(".end")


def test_of_a_jobs_error_the_message_is_shown_and_of_others_the_type() -> None:
    failed = JobFailed("no memory", "sdxl", "t1", "r1", "OSError", "a traceback with /secret/paths", output={"a": 1})
    assert to_json(JobUpdate("t1", "FAILURE", ended=True, error=failed))["error"] == {
        "type": "JobFailed",
        "message": "no memory",
    }
    own = JobUpdate("t1", "FAILURE", ended=True, error=ValueError("postgres://user:password@db"))
    assert to_json(own)["error"] == {"type": "ValueError", "message": None}
    cancelled = JobUpdate("t1", "REVOKED", ended=True, error=JobCancelled("revoked"))
    assert to_json(cancelled)["error"] == {"type": "JobCancelled", "message": "revoked"}
    long = JobUpdate("t1", "FAILURE", ended=True, error=JobFailed("x" * 9_999))
    assert len(to_json(long)["error"]["message"]) == MOST_MESSAGE


def test_neither_the_output_nor_runpods_id_is_shown() -> None:
    done = JobUpdate("t1", "SUCCESS", job_id="r1", ended=True, result={"private": "output"})
    assert "output" not in to_event(done).decode() and "r1" not in to_event(done).decode()
