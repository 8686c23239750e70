"""[2 of 8] What messages hold: task names, queues, the arguments and headers of a call.

What one process writes into a message and another reads is named here alone, so that a change is seen as one. Messages
and records carry `format`: a process leaves what a newer version wrote to newer processes, and reads the version before
its own.

Not here: the options of a call (``options.py``), its input and what it may hold (``_call_rules.py``), the job store's
keys and states (``_store/``).

Next: ``tasks/run.py``, where a worker takes the message.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

FORMAT = 1

RUN = "runpod.run"
SUBMIT_SYNC = "runpod.submit_sync"
CHECK_STATUS = "runpod.check_status"
FINISH = "runpod.finish"
CANCEL = "runpod.cancel"
HEALTH = "runpod.health"
PURGE_QUEUE = "runpod.purge_queue"
RETRY = "runpod.retry"
PAUSE = "runpod.pause"
RESUME = "runpod.resume"
EVERY_ENDPOINT = "*"
WAIT_FOR_POD = "runpod.pods.wait"
ERRBACK = "runpod.errback"
"""A task of the caller's own worker (``_publish/errbacks.py``)."""
JOB_ENDED = "runpod.job_ended"
"""A task of the caller's own worker (``_publish/job_ends.py``)."""
CONTROL = (HEALTH, PURGE_QUEUE, RETRY, PAUSE, RESUME, WAIT_FOR_POD)
"""Tasks whose caller waits for the answer. Each is short, so they use the queue of deliveries."""
TASK_NAMES = (RUN, SUBMIT_SYNC, CHECK_STATUS, FINISH, CANCEL, *CONTROL)
"""All but the tasks around ManagementClient, which ``api/_operations.py`` names."""

CALL = "runpod.call"
"""The one keyword of a call that is no field of its input: it holds `endpoint`, `options`, `format` and `not_before`. Its
name cannot be written as a keyword in Python, so fields may have any. A message from another language or from beat may
have these names, and `fields`, as keywords instead."""

ARGUMENTS: dict[str, tuple[type | tuple[type, ...], str]] = {
    "endpoint": (str, "a name or RunPod's endpoint id"),
    "fields": (dict, "an object"),
    "options": (dict, "an object"),
    "format": (int, "a whole number"),
    "not_before": ((int, float), "seconds since 1970"),
}
"""The keyword arguments of `runpod.run`: the type of each, and what to say when another one is given."""

ISSUED_AT = "runpod_issued_at"
"""Header of a call: when it was published, in seconds since 1970."""
BEGUN_AT = "runpod_begun_at"
"""Header of a call: when the first message of its chain was published, in seconds since 1970."""
ENDED_QUEUE = "runpod_ended_queue"
"""Header of a call: the queue of the caller's own worker to which `runpod.job_ended` goes at the call's end."""
REPUBLISHED = "runpod_republished"
"""Header of a copy that the watchdog publishes: `LOST`, or `UNCONFIRMED` if it must not be submitted any more."""
LOST, UNCONFIRMED = "lost", "unconfirmed"
REFUSED = "runpod_refused"
"""Header that a worker adds to a call whose input it removed before decoding: the reason."""

Scope = Literal["tree", "job", "step"]
"""Scope of a cancel. tree: every job under the same root. job: this job alone. step: this job or, if the id is not a
job yet, the jobs before it; resolved when the cancel runs."""
SCOPES: tuple[Scope, ...] = get_args(Scope)

HIDDEN = "<input hidden>"
"""What logs, events and Flower show instead of arguments."""

DEFAULT_QUEUE = "default"
"""The queue of the tasks that `RUNPOD_IMPORTS` names, and of a client that has no Celery app of its own."""

DAY_S = 86_400.0
DEFAULT_DEADLINE_S = 6 * 3600.0


@dataclass(frozen=True)
class Queues:
    """The three queues of a namespace."""

    run: str
    status: str
    deliver: str

    @classmethod
    def of(cls, namespace: str) -> Queues:
        return cls(run=namespace, status=f"{namespace}.status", deliver=f"{namespace}.deliver")

    def all(self) -> tuple[str, str, str]:
        return (self.run, self.status, self.deliver)
