"""A worker's child is killed with SIGKILL at every numbered step of a job's life."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from celery import chain, chord
from celery.result import AsyncResult

from celery_runpod.errors import JobFailed, SubmissionUnconfirmed
from tasks.crash_points import Step
from tests.application import collect, same
from tests.servers import World
from tests.waiting import eventually

RETRIED = {Step.OUTCOME_RETRIED}
UNKNOWN = {Step.SUBMIT_INTENT_STORED, Step.SUBMIT_POSTED}
"""Killed between the intent and the record of the answer: nobody can know whether RunPod took the job."""


def submits(world: World, mark: str) -> list[int]:
    return sorted(job["input"]["n"] for job in world.submits(mark))


STREAMED = {step for step in Step if step.startswith("stream.")}
CHORD = [step for step in Step if step not in UNKNOWN | RETRIED | STREAMED]
LONG = [Step.OUTCOME_RECORDED, Step.FINISH_CLAIMED, Step.FINISH_STORED]
"""What is claimed there is free again only when the claim lapses, after RUNPOD_CLAIM_LEASE_S. One process is killed at
each of them right after the other, so that all three claims lapse in the same time."""


def kill_at(chaos: World, die_at: Path, step: Step) -> tuple[str, AsyncResult]:
    """Send a chord while this step is armed, and wait until a process has died there; the chord's mark and result."""
    mark = uuid.uuid4().hex
    # One process may POST both jobs side by side: where it dies between the answers, the other is rightly unconfirmed.
    fast = chaos.endpoint("single" if step is Step.SUBMIT_RECORDED else "fast", sync=step is Step.SYNC_RECEIVED)
    die_at.write_text(step)
    header = [chain(fast.s(n=1, mark=mark), same.s()), fast.s(n=2, mark=mark)]
    result = chord(header, collect.s()).delay()
    eventually(die_at.exists, False, within_s=60)
    return mark, result


@pytest.fixture(scope="module")
def killed_long(chaos: World, die_at: Path) -> dict[Step, tuple[str, AsyncResult]]:
    return {step: kill_at(chaos, die_at, step) for step in LONG}


@pytest.mark.parametrize("step", CHORD, ids=str)
def test_a_chord_outlives_a_kill_at_every_step(
    chaos: World, die_at: Path, step: Step, request: pytest.FixtureRequest
) -> None:
    if step in LONG:
        mark, result = request.getfixturevalue("killed_long")[step]
    else:
        mark, result = kill_at(chaos, die_at, step)
    assert result.get(timeout=150) == [{"n": 1, "mark": mark}, {"n": 2, "mark": mark}]
    assert submits(chaos, mark) == [1, 2]
    eventually(chaos.open_jobs, [], within_s=90)


@pytest.fixture(scope="module")
def unanswered(chaos: World, die_at: Path) -> dict[Step, tuple[str, AsyncResult]]:
    """Mark and result of a job for each step. Both windows close in the same time: the second job is of another endpoint,
    because the first one's lets no POST begin while one is late."""
    sent = {}
    for endpoint, step in zip(("fast", "single"), sorted(UNKNOWN), strict=True):
        mark = uuid.uuid4().hex
        die_at.write_text(step)
        sent[step] = mark, chaos.endpoint(endpoint).delay(n=1, mark=mark)
        eventually(die_at.exists, False, within_s=60)
    return sent


@pytest.mark.parametrize("step", sorted(UNKNOWN), ids=str)
def test_a_submit_that_may_have_been_taken_is_never_repeated(
    chaos: World, unanswered: dict[Step, tuple[str, AsyncResult]], step: Step
) -> None:
    mark, result = unanswered[step]
    with pytest.raises(SubmissionUnconfirmed):
        result.get(timeout=120)
    assert submits(chaos, mark) == ([1] if step is Step.SUBMIT_POSTED else [])
    eventually(chaos.open_jobs, [], within_s=90)


def test_a_retry_outlives_a_kill(chaos: World, die_at: Path) -> None:
    mark = uuid.uuid4().hex
    die_at.write_text(Step.OUTCOME_RETRIED)
    with pytest.raises(JobFailed):
        chaos.endpoint("failing", retries=1).delay(n=1, mark=mark).get(timeout=120)
    assert not die_at.exists()
    assert submits(chaos, mark) == [1, 1]
    eventually(chaos.open_jobs, [], within_s=90)
