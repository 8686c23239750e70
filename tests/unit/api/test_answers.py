"""RunPod's JSON as types: odd fields are as good as missing, milliseconds end here."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celery_runpod.api._answers import (
    FINAL_STATES,
    Health,
    Job,
    Policy,
    parse_chunks,
    parse_health,
    parse_job,
    parse_removed,
)
from celery_runpod.errors import BadAnswer, InvalidOption, JobCancelled, JobError, JobFailed, JobTimedOut

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ["output", "error", "delayTime", "executionTime", "workerId", "retries", "status", "id", "stream", "removed"]


def test_a_finished_job() -> None:
    job = parse_job(
        {
            "id": "9f-u1",
            "status": "COMPLETED",
            "output": {"image": "..."},
            "delayTime": 2188,
            "executionTime": 30_000,
            "workerId": "w7",
            "retries": 2,
            "input": {"prompt": "private"},
            "webhook": "https://example.com",
        }
    )
    assert job == Job("9f-u1", "COMPLETED", {"image": "..."}, None, True, 2.188, 30.0, "w7", 2)
    assert job.final
    assert job.failure() is None
    assert job.result() == {"image": "..."}


def test_fields_of_odd_types_are_as_good_as_missing() -> None:
    job = parse_job(
        {
            "id": "9f-u1",
            "status": "IN_QUEUE",
            "output": None,
            "delayTime": "1500",
            "executionTime": {"ms": 3},
            "workerId": 7,
            "retries": None,
        }
    )
    assert job == Job("9f-u1", "IN_QUEUE", has_output=True, delay_s=1.5)


@pytest.mark.parametrize("value", [None, True, [], {}, "soon", "", -5, float("nan"), float("inf"), 10**400])
def test_a_time_that_is_none_is_none(value: Any) -> None:
    assert parse_job({"id": "a", "status": "FAILED", "delayTime": value, "retries": value}).delay_s is None


def test_an_output_of_null_is_told_from_no_output() -> None:
    assert parse_job({"id": "a", "status": "COMPLETED", "output": None}).has_output
    assert not parse_job({"id": "a", "status": "COMPLETED"}).has_output


@pytest.mark.parametrize(
    ("word", "state", "final"),
    [(state, state, True) for state in sorted(FINAL_STATES)]
    + [
        ("IN_QUEUE", "IN_QUEUE", False),
        ("IN_PROGRESS", "IN_PROGRESS", False),
        ("RUNNING", "IN_PROGRESS", False),
        ("PAUSED_BY_THE_MOON", "PAUSED_BY_THE_MOON", False),
    ],
)
def test_states(word: str, state: str, final: bool) -> None:
    job = parse_job({"id": "a", "status": word})
    assert (job.state, job.final) == (state, final)


@pytest.mark.parametrize("data", [None, [], "COMPLETED", 3, True])
def test_what_is_not_an_object_is_refused(data: Any) -> None:
    for parse in (parse_job, parse_health, parse_removed):
        with pytest.raises(BadAnswer):
            parse(data)


@pytest.mark.parametrize("data", [{}, {"id": "a"}, {"id": "a", "status": None}, {"id": "a", "status": ["COMPLETED"]}])
def test_a_job_without_a_status_is_refused(data: Any) -> None:
    with pytest.raises(BadAnswer):
        parse_job(data)


def test_an_answer_about_another_job_is_none() -> None:
    with pytest.raises(BadAnswer, match="another job"):
        parse_job({"id": "9f-u2", "status": "COMPLETED", "output": "of somebody else"}, job_id="9f-u1")


@pytest.mark.parametrize("job_id", [None, "", 7, ["a"]])
def test_a_job_without_an_id_is_refused_unless_it_is_known(job_id: Any) -> None:
    with pytest.raises(BadAnswer, match="no job id"):
        parse_job({"id": job_id, "status": "IN_QUEUE"})
    assert parse_job({"id": job_id, "status": "IN_QUEUE"}, job_id="9f-u1").id == "9f-u1"


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(FIELDS), ANY_JSON))
def test_no_answer_breaks_the_parsers(data: dict[str, Any]) -> None:
    for parse in (parse_health, parse_removed, parse_chunks):
        try:
            parse(data)
        except BadAnswer:
            assert parse is parse_removed
    try:
        job = parse_job(data)
    except BadAnswer:
        return
    assert isinstance(str(job.failure()), str)


def test_how_a_job_ended_as_an_error() -> None:
    cancelled = Job("a", "CANCELLED").failure("sdxl", "task-1")
    assert type(cancelled) is JobCancelled
    assert (cancelled.endpoint, cancelled.task_id, cancelled.job_id) == ("sdxl", "task-1", "a")
    assert type(Job("a", "TIMED_OUT").failure()) is JobTimedOut
    assert "job timed out after 600 s" in str(Job("a", "TIMED_OUT", error="job timed out after 600 s").failure())
    assert type(Job("a", "FAILED").failure()) is JobFailed
    assert Job("a", "IN_PROGRESS", error="?").failure() is None


def test_the_result_of_a_job_that_has_not_ended() -> None:
    with pytest.raises(JobError, match="it is IN_QUEUE"):
        Job("a", "IN_QUEUE").result()


def test_the_output_is_not_in_the_repr() -> None:
    assert "private" not in repr(Job("a", "COMPLETED", output="private", error="private"))


def test_health_with_every_field() -> None:
    health = parse_health(
        {
            "jobs": {"completed": 1, "failed": 2, "inProgress": 3, "inQueue": 4, "retried": 5},
            "workers": {"idle": 6, "initializing": 7, "ready": 8, "running": 9, "throttled": 10, "unhealthy": 11},
        }
    )
    assert health == Health(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)


@pytest.mark.parametrize("data", [{}, {"jobs": None, "workers": []}, {"jobs": {"inQueue": "many"}}])
def test_health_of_what_is_missing(data: Any) -> None:
    assert parse_health(data) == Health()


def test_chunks() -> None:
    assert parse_chunks({"stream": [{"output": "a", "metrics": {}}, {"output": None}, "bare", {"other": 1}]}) == [
        "a",
        None,
        "bare",
        {"other": 1},
    ]
    assert parse_chunks({"stream": None}) == parse_chunks([]) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"execution_timeout": 4.9},
        {"execution_timeout": 7 * 86_400 + 1},
        {"execution_timeout": float("nan")},
        {"execution_timeout": True},
        {"ttl": 9.9},
        {"ttl": 86_400_000},
        {"ttl": "60"},
        {"low_priority": "yes"},
    ],
)
def test_a_policy_out_of_bounds(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption) as caught:
        Policy(**wrong)
    assert caught.value.option == next(iter(wrong))


def test_a_policy_at_its_bounds() -> None:
    week = 7 * 86_400
    assert Policy(5, 10).to_json() == {"executionTimeout": 5000, "ttl": 10_000}
    assert Policy(week, week, True).to_json() == {
        "executionTimeout": 604_800_000,
        "ttl": 604_800_000,
        "lowPriority": True,
    }
