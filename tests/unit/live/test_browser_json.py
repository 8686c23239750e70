"""What a browser gets of a job: JSON that it can parse, on one line, and nothing that is nobody's business."""

from __future__ import annotations

import json
import uuid
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from celery_runpod._live.browser_json import HEARTBEAT, MOST_MESSAGE, MOST_PROGRESS, Position, event_id, to_json
from celery_runpod._live.chunks import Chunk
from celery_runpod._live.job_update import JobUpdate
from celery_runpod.errors import JobCancelled, JobFailed

RUNNING = JobUpdate("t1", "IN_PROGRESS", progress={"step": 3}, job_id="r1", seconds=12.345)


def event_of(news: JobUpdate | Chunk) -> bytes:
    return Position(None).event(news)


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
    lines = event_of(replace(RUNNING, progress=progress)).decode("ascii").split("\n")
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
    assert "output" not in event_of(done).decode() and "r1" not in event_of(done).decode()


def id_of(event: bytes | None) -> str:
    assert event is not None
    return event.decode().splitlines()[0].removeprefix("id: ")


def test_a_browser_that_comes_again_names_the_last_update_and_the_last_chunk() -> None:
    position = Position(None)
    assert id_of(position.event(RUNNING)) == event_id(RUNNING)
    last = id_of(position.event(Chunk("7-1", "a")))
    again = Position(last)
    assert again.after == "7-1" and again.event(RUNNING) == HEARTBEAT
    done = replace(RUNNING, ended=True)
    assert id_of(again.event(done)) == f"7-1_{event_id(done)}"


@pytest.mark.parametrize("last", ["", "x_y", "_", "9" * 40 + "-1_d", "1-1-1_d", "\n_d"])
def test_what_a_browser_cannot_have_got_is_the_beginning(last: str) -> None:
    assert Position(last).after == "0-0"


@pytest.mark.parametrize("output", ["</script>\n\ndata: x", {"a": float("nan")}, None, "\u2028"])
def test_a_chunk_is_one_event_whatever_it_holds(output: Any) -> None:
    first, name, data, *rest = event_of(Chunk("7-1", output, 2)).decode("ascii").split("\n")
    assert (first, name, rest) == ("id: 7-1_", "event: chunk", ["", ""])
    found = strict(data.removeprefix("data: "))
    assert {**found, "output": None} == {"id": "7-1", "output": None, "attempt": 2, "event": "chunk"}
