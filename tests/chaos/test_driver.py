"""The chaos driver itself: a seed is a plan, and the judge finds what it must. No server is started."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from celery_runpod.errors import (
    InvalidInput,
    JobFailed,
    JobPurged,
    OutputTooDeep,
    StreamIncomplete,
    SubmissionUnconfirmed,
)
from tests.chaos.evidence import End, Evidence, Streamed
from tests.chaos.plan import (
    BREAKS,
    BROKEN,
    CHUNKS,
    DEATHS,
    DEEP,
    FAST,
    FAULTS,
    KEPT_TALK,
    LOADS,
    POISON,
    POISONS,
    QUEUED,
    SLOW,
    TALK,
    USER,
    Load,
    Step,
    make_plan,
)
from tests.chaos.submits import KILLED
from tests.chaos.submits import LOST as LOST_ANSWER
from tests.chaos.verifier import DOUBLE, LOST, WRONG, Judge

START: dict[str, Any] = {"path": []}
UNCONFIRMED = End("FAILURE", SubmissionUnconfirmed("no answer"))
UNCONFIRMED_RESTORED = End("FAILURE", SubmissionUnconfirmed("the store was restored"))


def _evidence(**known: Any) -> Evidence:
    found: dict[str, Any] = {name: {} for name in ("ends", "submits", "ran", "unanswered", "streams")}
    found |= {"left": [], "cancelled": frozenset(), "deserters": []}
    return Evidence(**{**found, **known})


def _said(load: Load, evidence: Evidence) -> list[tuple[str, str]]:
    verdict = Judge(evidence).judge([load])
    return [(finding.kind, finding.task_id) for finding in verdict.findings]


SINGLE = Load("single", 0, ((Step("a", FAST),),))
SINGLE_RIGHT = _evidence(ends={"a": End("SUCCESS", {**START, "mark": "a"})}, submits={"a": [{"status": "COMPLETED"}]})

CHAIN = Load("chain", 0, ((Step("a", USER), Step("b", FAST), Step("c", USER)),))
_A, _C = {"path": ["a"]}, {"path": ["a", "c"], "mark": "b"}
CHAIN_RIGHT = _evidence(
    ends={"a": End("SUCCESS", _A), "b": End("SUCCESS", {**_A, "mark": "b"}), "c": End("SUCCESS", _C)},
    submits={"b": [{"status": "COMPLETED"}]},
    ran={"a": 1, "c": 1},
)

CHORD = Load("chord", 0, ((Step("a", FAST),), (Step("b", FAST),)), Step("body", USER))
_VALUES = [{**START, "mark": "a"}, {**START, "mark": "b"}]
CHORD_RIGHT = _evidence(
    ends={"a": End("SUCCESS", _VALUES[0]), "b": End("SUCCESS", _VALUES[1]), "body": End("SUCCESS", _VALUES)},
    submits={"a": [{"status": "COMPLETED"}], "b": [{"status": "COMPLETED"}]},
    ran={"body": 1},
)

CANCELLED = Load("cancelled", 0, ((Step("a", SLOW),),), cancel_after_s=1)
CANCELLED_RIGHT = _evidence(
    ends={"a": End("REVOKED", None)}, submits={"a": [{"status": "CANCELLED"}]}, cancelled=frozenset({"a"})
)

PURGED = Load("queue", 0, ((Step("a", QUEUED),),))
PURGED_RIGHT = _evidence(ends={"a": End("FAILURE", JobPurged("oh"))}, submits={"a": [{"status": "PURGED"}]})

TOO_DEEP = Load("too_deep", 0, ((Step("a", DEEP),),))
TOO_DEEP_RIGHT = _evidence(
    ends={"a": End("FAILURE", OutputTooDeep("oh", job_id="j"))}, submits={"a": [{"status": "COMPLETED"}]}
)

POISONED = Load("poison", 0, ((Step("a", POISON, options={"poison": next(iter(POISONS))}),),))
POISONED_RIGHT = _evidence(ends={"a": End("FAILURE", InvalidInput("oh"))})

STREAM = Load("stream", 0, ((Step("a", TALK, options={"stream": True}),),))
KEPT_STREAM = Load("kept_stream", 0, ((Step("a", KEPT_TALK, options={"stream": True}),),))
WHOLE = [{"mark": "a", "number": number} for number in range(CHUNKS)]
READ = tuple(("chunk", one) for one in WHOLE)
HOLE = (*READ[:3], ("gap", None), *READ[5:])
STREAM_RIGHT = _evidence(
    ends={"a": End("SUCCESS", WHOLE)}, submits={"a": [{"status": "COMPLETED"}]}, streams={"a": Streamed(READ)}
)
STREAM_LOST = replace(
    STREAM_RIGHT,
    ends={"a": End("FAILURE", StreamIncomplete("oh"))},
    streams={"a": Streamed(HOLE, "StreamIncomplete")},
)

SHARED = Load("shared", 0, ((Step("a", FAST, shares="job"),), (Step("b", FAST, shares="job"),)))


@pytest.mark.parametrize(
    ("load", "evidence"),
    [
        (SINGLE, SINGLE_RIGHT),
        (CHAIN, CHAIN_RIGHT),
        (CHORD, CHORD_RIGHT),
        (CANCELLED, CANCELLED_RIGHT),
        (PURGED, PURGED_RIGHT),
        (TOO_DEEP, TOO_DEEP_RIGHT),
        (POISONED, POISONED_RIGHT),
        (STREAM, STREAM_RIGHT),
        (STREAM, STREAM_LOST),
        (KEPT_STREAM, replace(STREAM_RIGHT, streams={"a": Streamed(HOLE)})),
    ],
    ids=lambda value: value.kind if isinstance(value, Load) else "",
)
def test_the_judge_finds_nothing_where_all_is_right(load: Load, evidence: Evidence) -> None:
    assert _said(load, evidence) == []


@pytest.mark.parametrize(
    ("load", "evidence", "found"),
    [
        (SINGLE, _evidence(), [(LOST, "a")]),
        (SINGLE, replace(SINGLE_RIGHT, submits={"a": [{}, {}]}), [(DOUBLE, "a")]),
        (SINGLE, replace(SINGLE_RIGHT, submits={}), [(WRONG, "a")]),
        (SINGLE, replace(SINGLE_RIGHT, ends={"a": End("SUCCESS", {"mark": "b"})}), [(WRONG, "a")]),
        (SINGLE, replace(SINGLE_RIGHT, ends={"a": End("FAILURE", JobFailed("oh"))}), [(WRONG, "a")]),
        (SINGLE, replace(SINGLE_RIGHT, ends={"a": End("REVOKED", None)}), [(WRONG, "a")]),
        (SINGLE, replace(SINGLE_RIGHT, left=["{runpod:fast}:job:a WAITING"]), [(WRONG, "a")]),
        (SINGLE, replace(SINGLE_RIGHT, deserters=["runpod1 ended with status 1"]), [(WRONG, "runpod1")]),
        (SINGLE, replace(SINGLE_RIGHT, submits={**SINGLE_RIGHT.submits, "x": [{}]}), [(WRONG, "x")]),
        # A purge removed this very job, and it ends so.
        (PURGED, replace(PURGED_RIGHT, submits={"a": [{"status": "COMPLETED"}]}), [(WRONG, "a")]),
        (PURGED, replace(PURGED_RIGHT, ends={"a": End("SUCCESS", {**START, "mark": "a"})}), [(WRONG, "a")]),
        (PURGED, _evidence(ends=PURGED_RIGHT.ends), [(WRONG, "a")]),
        (TOO_DEEP, replace(TOO_DEEP_RIGHT, ends={"a": End("SUCCESS", None)}), [(WRONG, "a")]),
        (TOO_DEEP, replace(TOO_DEEP_RIGHT, submits={"a": [{}, {}]}), [(DOUBLE, "a"), (WRONG, "a")]),
        # Poison has an end that says what is wrong with it, and costs nothing.
        (POISONED, _evidence(), [(LOST, "a")]),
        (POISONED, _evidence(ends={"a": End("FAILURE", RecursionError())}), [(WRONG, "a")]),
        (POISONED, _evidence(ends={"a": End("SUCCESS", 1)}, submits={"a": [{}]}), [(WRONG, "a")] * 2),
        # Why was it not confirmed? Neither a fault nor a kill explains it, or one does.
        (SINGLE, _evidence(ends={"a": UNCONFIRMED}), [(WRONG, "a")]),
        (SINGLE, _evidence(ends={"a": UNCONFIRMED}, unanswered={"b": KILLED}), [(WRONG, "a")]),
        (SINGLE, _evidence(ends={"a": UNCONFIRMED}, unanswered={"a": KILLED}), []),
        (SINGLE, _evidence(ends={"a": UNCONFIRMED_RESTORED}, unanswered={"a": LOST_ANSWER}), [(WRONG, "a")]),
        (SHARED, _evidence(ends={"a": UNCONFIRMED, "b": UNCONFIRMED}), [(WRONG, "a"), (WRONG, "b")]),
        (SHARED, _evidence(ends={"a": UNCONFIRMED, "b": UNCONFIRMED}, unanswered={"job": LOST_ANSWER}), []),
        # A stream: a hole without a gap event, a success with a hole, an end without a reason, readers with other chunks.
        (STREAM, replace(STREAM_RIGHT, streams={"a": Streamed(READ[:5])}), [(WRONG, "a")]),
        (STREAM, replace(STREAM_RIGHT, streams={"a": Streamed((*READ, READ[0]))}), [(WRONG, "a")]),
        (STREAM, replace(STREAM_RIGHT, ends={"a": End("SUCCESS", WHOLE[:5])}), [(WRONG, "a")]),
        (STREAM, replace(STREAM_RIGHT, streams={"a": Streamed(HOLE)}), [(WRONG, "a")]),
        (STREAM, replace(STREAM_LOST, streams={"a": Streamed(READ, "StreamIncomplete")}), [(WRONG, "a")]),
        (STREAM, replace(STREAM_LOST, streams={"a": Streamed(HOLE, "ResultTimeout")}), [(WRONG, "a")]),
        (KEPT_STREAM, STREAM_LOST, [(WRONG, "a")]),
        (CHAIN, replace(CHAIN_RIGHT, ran={"a": 1}), [(LOST, "c")]),
        (CHAIN, replace(CHAIN_RIGHT, ends={**CHAIN_RIGHT.ends, "c": End("SUCCESS", _A)}), [(WRONG, "c")]),
        # The rest of a chain that broke: it ends as the broken step did, and does not run.
        (CHAIN, replace(CHAIN_RIGHT, ends={**CHAIN_RIGHT.ends, "b": UNCONFIRMED}), [(WRONG, "b"), *[(WRONG, "c")] * 2]),
        (CHORD, replace(CHORD_RIGHT, ran={}), [(LOST, "body")]),
        (CHORD, replace(CHORD_RIGHT, ran={"body": 2}), [(DOUBLE, "body")]),
        (
            CHORD,
            replace(CHORD_RIGHT, ends={**CHORD_RIGHT.ends, "a": UNCONFIRMED}),
            [(WRONG, "a"), *[(WRONG, "body")] * 2],
        ),
        (CANCELLED, replace(CANCELLED_RIGHT, submits={"a": [{"status": "IN_PROGRESS"}]}), [(WRONG, "a")]),
        # Nobody can cancel what nobody knows the id of.
        (CANCELLED, replace(CANCELLED_RIGHT, submits={"a": [{"status": "IN_PROGRESS"}]}, unanswered={"a": KILLED}), []),
        (CANCELLED, replace(SINGLE_RIGHT, cancelled=frozenset({"a"})), [(WRONG, "a")]),
    ],
)
def test_the_judge_finds_what_is_lost_double_or_wrong(
    load: Load, evidence: Evidence, found: list[tuple[str, str]]
) -> None:
    assert _said(load, evidence) == found


def test_a_failing_job_must_fail_and_call_its_errback() -> None:
    load = Load("failing", 0, ((Step("a", BROKEN, errback="e"), Step("b", USER)),))
    failed = End("FAILURE", JobFailed("oh"))
    evidence = _evidence(ends={"a": failed, "b": failed}, submits={"a": [{}]}, ran={"e": 1})
    assert _said(load, evidence) == []
    assert _said(load, replace(evidence, ran={})) == [(LOST, "e")]


def test_a_user_task_that_ran_twice_is_counted_and_no_finding() -> None:
    verdict = Judge(replace(CHAIN_RIGHT, ran={"a": 1, "c": 2})).judge([CHAIN])
    assert (verdict.findings, verdict.repeated) == ([], ["c"])


def test_why_a_job_was_not_confirmed_is_counted() -> None:
    loads = [replace(SINGLE, lanes=((Step(name, FAST),),)) for name in "abc"]
    known = _evidence(ends=dict.fromkeys("abc", UNCONFIRMED), unanswered={"a": KILLED, "b": LOST_ANSWER})
    assert Judge(known).judge(loads).unconfirmed == {KILLED: 1, LOST_ANSWER: 1, "unexplained": 1}


def test_a_seed_is_a_plan() -> None:
    plan = make_plan(5, jobs=500, rate=10, break_every_s=1)
    assert plan == make_plan(5, jobs=500, rate=10, break_every_s=1)
    assert plan != make_plan(6, jobs=500, rate=10, break_every_s=1)


def test_a_long_plan_holds_everything_under_ids_of_its_own() -> None:
    plan = make_plan(5, jobs=10_000, rate=10, break_every_s=1)
    ids = Counter(step.id for load in plan.loads for step in load.steps)
    assert plan.jobs >= 10_000 and max(ids.values()) == 1
    assert {load.kind for load in plan.loads} == set(LOADS)
    assert {one.kind for one in plan.breaks} == set(BREAKS)
    assert {one.step for one in plan.breaks} - {None} == set(DEATHS)
    rules = [{name: value for name, value in one.fault.items() if name != "seed"} for one in plan.breaks if one.fault]
    assert all(dict(rule) in rules for rule in FAULTS)


def test_nothing_is_broken_after_the_last_load() -> None:
    plan = make_plan(5, jobs=200, rate=10, break_every_s=1)
    assert plan.breaks[-1].at_s < plan.loads[-1].at_s + 1
    assert [one.at_s for one in plan.breaks] == sorted(one.at_s for one in plan.breaks)
