"""Judges a run by its evidence: every task id has one end and the right one, and nothing was paid for twice. Pure.

    lost      no end within the bound, or what had to run did not
    double    the simulator saw a second submit of one job, or a chord's body ran twice
    wrong     an end that is not a right one, or something left behind

Legal ends of an endpoint's task: its output; the error of its job; SubmissionUnconfirmed, if a kill or a fault explains
this very one (``submits.py``); JobPurged, if RunPod's queue was purged of this very one; REVOKED, if it was cancelled.
A poison message ends with an error that says what is wrong with it, and is not submitted. Where a lane ends early, what
follows has the same state and has not run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from celery.states import FAILURE, REVOKED, SUCCESS

from celery_runpod.errors import (
    InvalidInput,
    InvalidOption,
    JobFailed,
    JobPurged,
    OutputMissing,
    OutputTooDeep,
    StreamIncomplete,
    SubmissionUnconfirmed,
)
from tests.chaos.evidence import End, Evidence
from tests.chaos.plan import BROKEN, CHUNKS, DEEP, EMPTY, POISON, SLOW, TALK, TALKERS, USER, Load, Step
from tests.chaos.submits import UNEXPLAINED

LOST, DOUBLE, WRONG = "lost", "double", "wrong"
RIGHT_ERRORS = {BROKEN: JobFailed.__name__, DEEP: OutputTooDeep.__name__, EMPTY: OutputMissing.__name__}
"""Endpoint -> the error that every job of it ends with."""
PURGED = "PURGED"
"""What the simulator calls a job that a purge removed."""


@dataclass(frozen=True)
class Finding:
    kind: str
    task_id: str
    problem: str


@dataclass
class Verdict:
    """`ends` counts how tasks of endpoints ended; `unconfirmed` why those that ended with SubmissionUnconfirmed did;
    `streams` how many streams were whole, and how many had a gap. `repeated` are the user's tasks that ran twice: this
    happens where a worker is killed between Celery's dispatch and its store."""

    findings: list[Finding] = field(default_factory=list)
    ends: Counter[str] = field(default_factory=Counter)
    unconfirmed: Counter[str] = field(default_factory=Counter)
    streams: Counter[str] = field(default_factory=Counter)
    repeated: list[str] = field(default_factory=list)

    def count(self, kind: str) -> int:
        return sum(finding.kind == kind for finding in self.findings)


class Judge:
    """See the module."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.verdict = Verdict()

    def judge(self, loads: list[Load]) -> Verdict:
        for load in loads:
            self._load(load)
        for deserter in self.evidence.deserters:
            self._say(WRONG, deserter.split()[0], f"a worker that nobody killed is gone: {deserter}")
        for left in self.evidence.left:
            self._say(WRONG, left.split(":job:")[-1].split()[0], f"left in the store: {left}")
        known = {step.mark for load in loads for step in load.steps}
        for mark, submits in self.evidence.submits.items():
            if mark not in known:
                self._say(WRONG, mark, f"submitted, and nobody asked for it: {submits}"[:300])
        return self.verdict

    def _load(self, load: Load) -> None:
        values: list[Any] = []
        for lane in load.lanes:
            whole, value = self._lane(load, lane)
            if whole:
                values.append(value)
        if load.body is not None:
            self._body(load, load.body, values)

    def _lane(self, load: Load, lane: tuple[Step, ...]) -> tuple[bool, Any]:
        """Whether every step succeeded, and the last one's value."""
        value: Any = {"path": []}
        broken: End | None = None
        for step in lane:
            end = self.evidence.ends.get(step.id)
            if end is None:
                self._say(LOST, step.id, f"{load.kind}: no end")
                return False, None
            if broken is not None:
                self._after_a_break(load, step, end, broken)
                continue
            if step.does == POISON:
                self._poison(load, step, end)
            elif step.does == USER:
                value = {**value, "path": [*value["path"], step.id]}
                self._user(load, step, end, value)
            else:
                value = self._endpoint(load, step, end, {**value, "mark": step.mark})
            if end.state != SUCCESS:
                broken = end
        return broken is None, value

    def _poison(self, load: Load, step: Step, end: End) -> None:
        self.verdict.ends[f"{end.state} {_name(end)}".strip()] += 1
        if end.state != FAILURE or not isinstance(end.result, InvalidInput | InvalidOption):
            self._say(WRONG, step.id, f"{load.kind}: {step.options['poison']} ended as {_text(end)}")
        if self.evidence.submits.get(step.mark):
            self._say(WRONG, step.id, f"{load.kind}: {step.options['poison']} was submitted")

    def _user(self, load: Load, step: Step, end: End, value: Any) -> None:
        if end.state != SUCCESS or end.result != value:
            self._say(WRONG, step.id, f"{load.kind}: the user's step ended as {_text(end)}, not with {value!r}")
        self._ran(load, step.id)

    def _ran(self, load: Load, task_id: str) -> None:
        times = self.evidence.ran.get(task_id, 0)
        if not times:
            self._say(LOST, task_id, f"{load.kind}: never ran")
        elif times > 1:
            self.verdict.repeated.append(task_id)

    def _after_a_break(self, load: Load, step: Step, end: End, broken: End) -> None:
        if end.state != broken.state:
            self._say(WRONG, step.id, f"{load.kind}: {_text(end)} after a step that ended as {_text(broken)}")
        if self.evidence.ran.get(step.id) or self.evidence.submits.get(step.mark):
            self._say(WRONG, step.id, f"{load.kind}: went on after a step that ended as {_text(broken)}")

    def _endpoint(self, load: Load, step: Step, end: End, value: Any) -> Any:
        """Judge one job; answers what the next step gets."""
        submits = self.evidence.submits.get(step.mark, [])
        if len(submits) > step.submits:
            self._say(DOUBLE, step.id, f"{load.kind}: submitted {len(submits)} times")
        self._links(load, step, end)
        name = _name(end)
        self.verdict.ends[f"{end.state} {name}".strip()] += 1
        if name == SubmissionUnconfirmed.__name__:
            self._unconfirmed(load, step, end)
        elif end.state == REVOKED:
            self._revoked(load, step, submits)
        elif name == JobPurged.__name__ or any(job.get("status") == PURGED for job in submits):
            self._purged(load, step, end, submits)
        elif step.does in TALKERS:
            self._stream(load, step, end, submits)
        else:
            self._verdict_of_runpod(load, step, end, value, submits)
        return end.result if step.options.get("on_error") == "return" else value

    def _verdict_of_runpod(self, load: Load, step: Step, end: End, value: Any, submits: list[dict[str, Any]]) -> None:
        if step.does in RIGHT_ERRORS:
            right = _name(end) == RIGHT_ERRORS[step.does] and (end.state == SUCCESS) is ("on_error" in step.options)
            right = right and len(submits) in (0, step.submits)
        else:
            right = end.state == SUCCESS and end.result == value
        if not right:
            self._say(WRONG, step.id, f"{load.kind}: ended as {_text(end)}; the right value is {value!r}")
        elif not submits:
            self._say(WRONG, step.id, f"{load.kind}: ended as {_text(end)} but was never submitted")
        elif step.does == SLOW:
            self._say(WRONG, step.id, f"{load.kind}: the cancel was lost, the job ran to its end")

    def _stream(self, load: Load, step: Step, end: End, submits: list[dict[str, Any]]) -> None:
        """A stream is whole, or its readers get a gap. Then a job whose whole output RunPod does not keep ends with
        StreamIncomplete, never as a success with a hole."""
        whole = [{"mark": step.mark, "number": number} for number in range(CHUNKS)]
        read = self.evidence.streams[step.id]
        chunks = [output for event, output in read.entries if event == "chunk"]
        gaps = sum(event == "gap" for event, _ in read.entries)
        self.verdict.streams["with a gap" if gaps else "whole"] += 1
        lost = bool(gaps) and step.does == TALK
        right = _name(end) == StreamIncomplete.__name__ if lost else end.state == SUCCESS and end.result == whole
        if not right or not submits:
            self._say(WRONG, step.id, f"{load.kind}: ended as {_text(end)} after {len(chunks)} chunks and {gaps} gaps")
        if read.error != _name(end):
            self._say(WRONG, step.id, f"{load.kind}: its readers end with {read.error!r}, and it as {_text(end)}")
        if chunks != [one for one in whole if one in chunks] or (not gaps and chunks != whole):
            self._say(WRONG, step.id, f"{load.kind}: its readers get {read.entries!r}"[:300])

    def _purged(self, load: Load, step: Step, end: End, submits: list[dict[str, Any]]) -> None:
        if _name(end) != JobPurged.__name__:
            self._say(WRONG, step.id, f"{load.kind}: ended as {_text(end)}, but a purge removed it")
        elif [job["status"] for job in submits] != [PURGED]:
            self._say(WRONG, step.id, f"{load.kind}: JobPurged, but at the simulator {submits}")

    def _unconfirmed(self, load: Load, step: Step, end: End) -> None:
        why = self.evidence.unanswered.get(step.mark, UNEXPLAINED)
        self.verdict.unconfirmed[why] += 1
        if why == UNEXPLAINED:
            self._say(WRONG, step.id, f"{load.kind}: SubmissionUnconfirmed, but no fault and no kill explains it")
        if "restored" in str(end.result):
            self._say(WRONG, step.id, f"{load.kind}: {_text(end)}, but Redis lost nothing")

    def _revoked(self, load: Load, step: Step, submits: list[dict[str, Any]]) -> None:
        if load.cancel_after_s is None or load.lanes[0][-1].id not in self.evidence.cancelled:
            self._say(WRONG, step.id, f"{load.kind}: REVOKED, but nobody cancelled it")
        # Nobody knows the id of a job whose submit was not answered, so nobody can cancel it.
        known = step.mark not in self.evidence.unanswered
        if step.does == SLOW and any(job["status"] != "CANCELLED" for job in submits) and known:
            self._say(WRONG, step.id, f"{load.kind}: REVOKED, but at the simulator {submits[0]['status']}")

    def _links(self, load: Load, step: Step, end: End) -> None:
        for own_id, runs in ((step.link, end.state == SUCCESS), (step.errback, end.state != SUCCESS)):
            if own_id is None:
                continue
            if runs:
                self._ran(load, own_id)
            elif self.evidence.ran.get(own_id):
                self._say(WRONG, own_id, f"{load.kind}: ran, though its task ended as {_text(end)}")

    def _body(self, load: Load, body: Step, values: list[Any]) -> None:
        end, times = self.evidence.ends.get(body.id), self.evidence.ran.get(body.id, 0)
        if end is None:
            self._say(LOST, body.id, f"{load.kind}: the body has no end")
        elif len(values) == len(load.lanes):
            if end.state != SUCCESS or end.result != values:
                self._say(WRONG, body.id, f"{load.kind}: the body ended as {_text(end)}, not with {values!r}")
            if times != 1:
                self._say(DOUBLE if times else LOST, body.id, f"{load.kind}: the body ran {times} times")
        else:
            if end.state not in (FAILURE, REVOKED):
                self._say(WRONG, body.id, f"{load.kind}: the body ended as {_text(end)}, though a member failed")
            if times:
                self._say(WRONG, body.id, f"{load.kind}: the body ran, though a member failed")

    def _say(self, kind: str, task_id: str, problem: str) -> None:
        self.verdict.findings.append(Finding(kind, task_id, problem))


def _name(end: End) -> str:
    """The error's class, also where the error is the result."""
    if isinstance(end.result, BaseException):
        return type(end.result).__name__
    if isinstance(end.result, dict) and isinstance(end.result.get("error"), dict):
        return str(end.result["error"].get("type"))
    return ""


def _text(end: End) -> str:
    return f"{end.state} {end.result!r}"[:300]


def every_id(loads: list[Load]) -> Iterator[str]:
    """The ids that must have an end."""
    return (step.id for load in loads for step in load.steps)
