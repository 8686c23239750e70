"""Imported into a RunPod worker by `RUNPOD_IMPORTS`: notes what every submit comes to, so that its end can be explained.

A line is in the file before the process goes on, so it is there also if the process is killed at that moment. Words of
a submit, in their order:

    claims      the claim is asked of the store; it may have been granted if nothing follows
    claimed     this process alone may POST this attempt; `denied` where it may not
    sends       the POST begins
    answered    RunPod has said that it has the job; then `recorded`, once that is in the store
    failed      it has not, with the error; then `judged`, once what that means is in the store
    over        our code has left the submit, by whatever way; what it has not written down by then, it never will

and `dies`, of a process that reaches a numbered step that is armed.

Not here: what the words mean (``submits.py``).
"""

from __future__ import annotations

import json
import os
import threading
import time
from typing import Any

import tasks.check
import tasks.crash_points
import tasks.run
import tasks.submit
from celery_runpod._store.submits import Submits

NOTES = "CHAOS_NOTES"
"""The variable that names the file."""

_claim = Submits.claim_submit
_post, _insist, _refused = tasks.submit._post, tasks.submit._insist, tasks.submit._refused
_submit = tasks.submit.submit
_taken = tasks.crash_points._taken
_mine = threading.local()
"""The claim that this thread has made in the submit that it is in."""


def note(word: str, **fields: Any) -> None:
    who = {"pid": os.getpid(), "group": os.getpgid(0)}
    line = json.dumps({"at": time.time(), "word": word, **who, **fields}) + "\n"
    file = os.open(os.environ[NOTES], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)


def _of(job: Any) -> dict[str, Any]:
    return {"task_id": job.task_id, "attempt": job.attempt}


def claim_submit(self: Any, job: Any, post: Any, *args: Any, **kwargs: Any) -> Any:
    _mine.token = token = post.token
    note("claims", token=token, task_id=job.task_id, mark=job.input["mark"])
    claim = _claim(self, job, post, *args, **kwargs)
    note("claimed" if claim.word == "go" else "denied", token=token, task_id=job.task_id, attempt=claim.attempt)
    return claim


def submit(*args: Any, **kwargs: Any) -> None:
    _mine.token = None
    try:
        _submit(*args, **kwargs)
    finally:
        if _mine.token is not None:
            note("over", token=_mine.token)


def post(services: Any, job: Any, *args: Any, **kwargs: Any) -> Any:
    note("sends", **_of(job))
    try:
        answer = _post(services, job, *args, **kwargs)
    except Exception as error:
        note("failed", **_of(job), error=type(error).__name__, sent=getattr(error, "sent", True))
        raise
    note("answered", **_of(job))
    return answer


def insist(services: Any, job: Any, *args: Any, **kwargs: Any) -> Any:
    word = _insist(services, job, *args, **kwargs)
    note("recorded", **_of(job))
    return word


def refused(services: Any, job: Any, *args: Any, **kwargs: Any) -> None:
    _refused(services, job, *args, **kwargs)
    note("judged", **_of(job))


def taken(file: str, step: Any) -> str:
    word = _taken(file, step)
    if word:
        note("dies", step=str(step))
    return word


if NOTES in os.environ:
    Submits.claim_submit = claim_submit
    tasks.submit._post, tasks.submit._insist, tasks.submit._refused = post, insist, refused
    tasks.check.submit = tasks.run.submit = submit
    tasks.crash_points._taken = taken
