"""The times that Flower shows are the job's, by RunPod where it gave them."""

from __future__ import annotations

from dataclasses import replace

from celery_runpod._store.record import JobRecord
from celery_runpod.options import Options
from tasks.job_events import ended_fields, open_fields

JOB = JobRecord("t1", "e1", "sdxl", "t1", "", Options(), accepted_at=100.0, not_before=100.0, end_by=900.0)
AT_RUNPOD = replace(JOB, job_id="job-1", attempt=1, submitted_at=110.0)


def test_runpods_times_count_and_not_those_at_which_a_look_came() -> None:
    outcome = {"output": 1, "delay_s": 5.0, "execution_s": 20.0}
    ended = replace(AT_RUNPOD, started_at=119.0, ended_at=140.0, outcome=outcome)
    assert ended_fields(ended) == {
        "result": "job job-1, waited 5.00 s, worked 20.00 s",
        "started": 115.0,
        "ended": 135.0,
        "runtime": 20.0,
    }


def test_without_runpods_times_those_of_the_looks_count() -> None:
    ended = replace(AT_RUNPOD, attempt=2, started_at=119.0, ended_at=140.0, outcome={"error": {}})
    assert ended_fields(ended) == {"result": "job job-1, attempt 2", "started": 119.0, "ended": 140.0, "runtime": 21.0}


def test_a_call_that_was_never_submitted_has_no_runtime() -> None:
    ended = replace(JOB, ended_at=140.0, outcome={"error": {}})
    assert ended_fields(ended) == {"result": None, "started": None, "ended": 140.0, "runtime": None}


def test_a_clock_of_runpod_that_runs_late_lets_no_job_end_after_its_end_was_seen() -> None:
    ended = replace(AT_RUNPOD, ended_at=120.0, outcome={"delay_s": 5.0, "execution_s": 20.0})
    assert ended_fields(ended)["ended"] == 120.0


def test_an_open_job_shows_its_reason_its_id_and_its_start() -> None:
    assert open_fields(JOB, {"reason": "BUDGET"}) == {"result": "reason BUDGET", "started": None}
    assert open_fields(AT_RUNPOD, {"reason": "COLD_START"})["result"] == "reason COLD_START, job job-1"
    assert open_fields(AT_RUNPOD, {"delay_s": 4.0}) == {"result": "job job-1", "started": 114.0}
