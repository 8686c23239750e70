"""Why a submit may have got no answer: its process was killed under it, or the simulator lost the answer. Pure.

    KILLED    the process was killed while it was at it, before the window closed
    LOST      its POST failed while a fault was in force; each time that a fault happened explains one such POST

The words of a submit, in their order, from the events that the thread of a worker logs:

    claims      submit.claiming                          its claim may have been granted if nothing follows
    claimed     submit.claimed                           this process alone may POST this attempt; or it may not
    sends       step.reached submit.1.intent_stored      the POST begins
    answered    step.reached submit.2.posted             RunPod has said that it has the job
    recorded    step.reached submit.3.recorded           that is in the store
    failed      submit.post_over, with an error          RunPod has not said so
    over        work.over                                what was not written down by then never will be

Judged is the last submit of a job: what an older one came to is known, or there would be no later one.

Not here: keeping the events (``noting.py``), what was killed and which faults happened (``havoc.py``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tasks.crash_points import Step

KILLED, LOST, UNEXPLAINED = "killed", "answer lost", "unexplained"
UNDER_WAY = frozenset({"claims", "claimed", "sends", "answered", "failed"})
"""Last words of a submit whose process did not get further."""
STEPS = {
    str(Step.SUBMIT_INTENT_STORED): "sends",
    str(Step.SUBMIT_POSTED): "answered",
    str(Step.SUBMIT_RECORDED): "recorded",
}


@dataclass
class Submit:
    """One claim to submit a job; `word` is the last that is known of it. `job` is the task id; of a job that calls with
    an idempotency key share, the key's hash. Times are seconds since 1970."""

    job: str
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
    """What the workers logged."""
    notes = Notes()
    claims: dict[str, Submit] = {}
    of_thread: dict[tuple[int, int], Submit] = {}
    # Threads and processes write side by side.
    for line in sorted((json.loads(line) for line in lines), key=lambda line: line["at"]):
        event, who = line["event"], (line["pid"], line["thread"])
        if event == "step.dies":
            notes.died[line["pid"]] = line["at"]
        elif event == "submit.claiming":
            submit = Submit(line["shares"] or line["task_id"], line["pid"], line["group"], line["at"], "claims")
            of_thread[who] = claims[line["token"]] = submit
        elif (known := of_thread.get(who)) is None:
            continue
        elif event == "submit.claimed" and line["word"] == "go":
            known.word = "claimed"
        elif event == "submit.claimed":
            del of_thread[who], claims[line["token"]]
        elif event == "submit.post_over" and "error" in line:
            known.word = "failed"
            if line["sent"]:
                known.failed_at, known.error = line["at"], line["error"]
        elif event == "step.reached" and line["step"] in STEPS:
            known.word = STEPS[line["step"]]
            known.sent_at = known.sent_at or line["at"]
        elif event == "work.over":
            of_thread.pop(who).word = "over"
    notes.submits = list(claims.values())
    return notes


def why_unanswered(
    submits: Sequence[Submit], killed: Mapping[int, float], spoilings: Sequence[Spoiling], *, window_s: float
) -> dict[str, str]:
    """Job -> why its last submit may have got no answer; without the jobs where nothing explains that.
    `killed` are processes and process groups, and when."""
    lost = _matched([one for one in submits if one.may_be_taken], spoilings)
    last: dict[str, Submit] = {}
    for submit in sorted(submits, key=lambda one: one.began):
        last[submit.job] = submit
    found = {}
    for job, submit in last.items():
        died_at = killed.get(submit.pid, killed.get(submit.group))
        # What outlives its own window has had the time to say what came of it.
        if submit.word in UNDER_WAY and died_at is not None and died_at - submit.began < window_s:
            found[job] = KILLED
        elif id(submit) in lost:
            found[job] = LOST
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
