"""Why a submit may have got no answer: its process was killed under it, or the simulator lost the answer. Pure.

    KILLED    the process was killed while it was at it, before the window closed
    LOST      its POST failed while a fault was in force; each time that a fault happened explains one such POST

Judged is the last submit of a job: what an older one came to is known, or there would be no later one.

Not here: the notes (``noting.py``), what was killed and which faults happened (``havoc.py``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

KILLED, LOST, UNEXPLAINED = "killed", "answer lost", "unexplained"
UNDER_WAY = frozenset({"claims", "claimed", "sends", "answered", "failed"})
"""Last words of a submit whose process did not get further."""


@dataclass
class Submit:
    """One claim to submit a job; `word` is the last that is known of it. Times are seconds since 1970."""

    mark: str
    pid: int
    group: int
    began: float
    word: str
    sent_at: float = 0.0
    failed_at: float = 0.0
    error: str = ""

    @property
    def may_be_taken(self) -> bool:
        """Whether its POST failed so that RunPod may have the job all the same."""
        return bool(self.failed_at) and self.error != "RateLimited"


@dataclass(frozen=True)
class Spoiling:
    """A fault that loses the answer to a POST happened so often in this time (seconds since 1970)."""

    began: float
    ended: float
    times: int

    def meets(self, submit: Submit) -> bool:
        return submit.sent_at <= self.ended and submit.failed_at >= self.began


@dataclass
class Notes:
    """`died` are the processes that reached an armed step, and when."""

    submits: list[Submit] = field(default_factory=list)
    died: dict[int, float] = field(default_factory=dict)


def read(lines: Iterable[str]) -> Notes:
    """What the workers noted."""
    notes = Notes()
    claims: dict[str, Submit] = {}
    numbered: dict[tuple[str, int], Submit] = {}
    # Threads and processes write side by side.
    for line in sorted((json.loads(line) for line in lines), key=lambda line: line["at"]):
        word = line["word"]
        if word == "dies":
            notes.died[line["pid"]] = line["at"]
        elif word == "claims":
            claims[line["token"]] = Submit(line["mark"], line["pid"], line["group"], line["at"], word)
        elif word == "denied":
            claims.pop(line["token"], None)
        elif word == "claimed":
            numbered[line["task_id"], line["attempt"]] = claims[line["token"]]
            claims[line["token"]].word = word
        elif word == "over":
            if claim := claims.get(line["token"]):
                claim.word = word
        elif submit := numbered.get((line["task_id"], line["attempt"])):
            _note(submit, line)
    notes.submits = list(claims.values())
    return notes


def _note(submit: Submit, line: Mapping[str, Any]) -> None:
    submit.word = line["word"]
    if submit.word == "sends":
        submit.sent_at = line["at"]
    elif submit.word == "failed" and line["sent"]:
        submit.failed_at, submit.error = line["at"], line["error"]


def why_unanswered(
    submits: Sequence[Submit], killed: Mapping[int, float], spoilings: Sequence[Spoiling], *, window_s: float
) -> dict[str, str]:
    """Mark -> why the last submit of the job may have got no answer; without the marks where nothing explains that.
    `killed` are processes and process groups, and when."""
    lost = _matched([one for one in submits if one.may_be_taken], spoilings)
    last: dict[str, Submit] = {}
    for submit in sorted(submits, key=lambda one: one.began):
        last[submit.mark] = submit
    found = {}
    for mark, submit in last.items():
        died_at = killed.get(submit.pid, killed.get(submit.group))
        # What outlives its own window has had the time to say what came of it.
        if submit.word in UNDER_WAY and died_at is not None and died_at - submit.began < window_s:
            found[mark] = KILLED
        elif id(submit) in lost:
            found[mark] = LOST
    return found


def _matched(submits: Sequence[Submit], spoilings: Sequence[Spoiling]) -> set[int]:
    """Those that are explained when as many as possible are, each by a fault's happening of its own."""
    happenings = [spoiling for spoiling in spoilings for _ in range(spoiling.times)]
    taken: dict[int, Submit] = {}

    def place(submit: Submit, tried: set[int]) -> bool:
        for number, happening in enumerate(happenings):
            if number in tried or not happening.meets(submit):
                continue
            tried.add(number)
            if number not in taken or place(taken[number], tried):
                taken[number] = submit
                return True
        return False

    for submit in submits:
        place(submit, set())
    return {id(submit) for submit in taken.values()}
