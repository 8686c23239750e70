"""What explains a submit without an answer, and what does not. No server is started."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tasks.crash_points import Step
from tests.chaos.plan import FAULTS, OUTAGES, loses_answers
from tests.chaos.submits import KILLED, LOST, Spoiling, read, why_unanswered

WINDOW_S = 12.0
PID, GROUP, OTHER = 11, 10, 12


EVENTS: dict[str, dict[str, Any]] = {
    "claims": {"event": "submit.claiming"},
    "claimed": {"event": "submit.claimed", "word": "go"},
    "denied": {"event": "submit.claimed", "word": "wait"},
    "sends": {"event": "step.reached", "step": Step.SUBMIT_INTENT_STORED},
    "answered": {"event": "step.reached", "step": Step.SUBMIT_POSTED},
    "recorded": {"event": "step.reached", "step": Step.SUBMIT_RECORDED},
    "failed": {"event": "submit.post_over", "error": "Unavailable", "sent": True},
    "over": {"event": "work.over"},
    "dies": {"event": "step.dies"},
}


def lines(*words: str, mark: str = "m", at: float = 100.0, pid: int = PID, attempt: int = 1, **more: Any) -> list[str]:
    """The events of one submit, a second apart, in a thread of its own."""
    about = {"pid": pid, "group": GROUP, "thread": mark, "task_id": mark, "shares": "", "attempt": attempt}
    about["token"] = f"{mark}-{attempt}-{pid}"
    return [
        json.dumps({**about, **EVENTS[word], **(more if word == "failed" else {}), "at": at + number})
        for number, word in enumerate(words)
    ]


def why(noted: list[str], killed: dict[int, float] | None = None, *spoilings: Spoiling) -> dict[str, str]:
    notes = read(noted)
    return why_unanswered(notes.submits, {**notes.died, **(killed or {})}, spoilings, window_s=WINDOW_S)


UNDER_WAY = ("claims", "claimed", "sends", "answered")
FAILED = ("claims", "claimed", "sends", "failed", "over")
"""Of a submit whose answer was lost: sent at 102, failed at 103."""


@pytest.mark.parametrize("known", range(1, len(UNDER_WAY) + 1))
@pytest.mark.parametrize("whom", [PID, GROUP])
def test_a_kill_explains_what_its_process_had_under_way(known: int, whom: int) -> None:
    assert why(lines(*UNDER_WAY[:known]), {whom: 105.0}) == {"m": KILLED}


def test_a_death_at_a_numbered_step_is_a_kill() -> None:
    assert why([*lines(*UNDER_WAY), *lines("dies", at=105.0)]) == {"m": KILLED}


def test_a_kill_of_another_process_explains_nothing() -> None:
    assert why(lines(*UNDER_WAY), {OTHER: 105.0}) == {}


def test_a_kill_after_the_window_explains_nothing() -> None:
    assert why(lines(*UNDER_WAY), {PID: 113.0}) == {}


def test_what_was_recorded_needs_no_explanation_and_gets_none() -> None:
    assert why(lines(*UNDER_WAY, "recorded"), {PID: 105.0}, Spoiling(100, 110, 9)) == {}


@pytest.mark.parametrize("known", range(1, len(UNDER_WAY) + 1))
def test_a_submit_that_was_left_before_the_kill_is_not_explained_by_it(known: int) -> None:
    assert why(lines(*UNDER_WAY[:known], "over"), {PID: 105.0}) == {}


def test_a_claim_that_was_refused_is_no_submit() -> None:
    noted = [*lines(*UNDER_WAY, "recorded"), *lines("claims", "denied", "over", at=101.5, pid=OTHER, attempt=2)]
    assert why(noted, {OTHER: 105.0}) == {}


def test_a_shared_job_is_known_by_its_key() -> None:
    noted = [json.dumps({**json.loads(line), "shares": "hash"}) for line in lines(*UNDER_WAY)]
    assert why(noted, {PID: 105.0}) == {"hash": KILLED}


def test_the_last_submit_of_a_job_counts() -> None:
    noted = [*lines("claims"), *lines(*UNDER_WAY, "recorded", at=110.0, pid=OTHER, attempt=1)]
    assert why(noted, {PID: 101.0}) == {}


def test_a_fault_explains_as_many_posts_as_it_spoiled_and_no_more() -> None:
    noted = [line for mark in "abc" for line in lines(*FAILED, mark=mark)]
    assert why(noted) == {}
    assert list(why(noted, {}, Spoiling(100, 110, 2)).values()) == [LOST] * 2
    assert why(noted, {}, Spoiling(100, 110, 2), Spoiling(100, 102.5, 1)) == dict.fromkeys("abc", LOST)


def test_a_fault_of_another_time_explains_nothing() -> None:
    assert why(lines(*FAILED), {}, Spoiling(90, 101, 5), Spoiling(104, 110, 5)) == {}


def test_each_happening_goes_to_the_post_that_needs_it() -> None:
    early, late = lines(*FAILED, mark="early"), lines(*FAILED, mark="late", at=105.0)
    both, one = Spoiling(100, 110, 1), Spoiling(100, 104, 1)
    for spoilings in ((both, one), (one, both)):
        assert why([*early, *late], {}, *spoilings) == {"early": LOST, "late": LOST}


@pytest.mark.parametrize("more", [{"error": "RateLimited"}, {"sent": False}])
def test_what_runpod_certainly_has_not_is_explained_by_no_fault(more: dict[str, Any]) -> None:
    assert why(lines(*FAILED, **more), {}, Spoiling(100, 110, 5)) == {}


def test_every_fault_that_loses_an_answer_says_how_often_it_may_happen() -> None:
    losing = [fault for fault in FAULTS if loses_answers(fault, 3.0)]
    assert {fault["kind"] for fault in losing} == {"status", "drop_before", "drop_after", "truncate", "body", "delay"}
    assert all(fault["operation"] == "run" for fault in losing)
    # A fault that may happen often explains the loss of many submits: only an outage, which must also meet the probes
    # after its onset, may. Each happening still explains one submit, by the simulator's count.
    assert all(fault["times"] <= (20 if fault in OUTAGES else 2) for fault in losing)
    assert len(OUTAGES) == 2
