"""JobUpdate: how a job stands at one moment, as `watch`, the status view and the event streams give it.

Not here: reading it from Redis (``job_reader.py``), and its JSON for browsers (``browser_json.py``).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from celery.exceptions import TaskRevokedError

from celery_runpod.errors import JobCancelled

NO_WORKER = "NO_WORKER"
EARLIER_STEP = "EARLIER_STEP"
"""The reason of a step of a flow that begins when an earlier one has ended."""


@dataclass(frozen=True)
class JobUpdate:
    """How a job stands.

    Attributes:
        task_id: the id of the call.
        state: while the job is open WAITING, SUBMITTING, IN_QUEUE or IN_PROGRESS; of a call with an idempotency key that
            of the job which it shares, and JOINED where that is not known; PENDING before a worker has accepted the
            call; RunPod's verdict (COMPLETED, FAILED, ...) or ENDED_HERE (a worker's own) for the moment until the result
            is stored. At the end SUCCESS, FAILURE or REVOKED.
        reason: why it waits, as `JobResult.reason`; None if it does not, or if no reason is known.
        progress: the handler's latest `progress_update`.
        job_id: RunPod's id of the job, once RunPod has accepted it.
        seconds: since the call was published, in a chain since its first call was; at the end until the end. None if that
            is not known.
        ended: whether this is the end; no other update follows.
        error: what an ended job failed with; JobCancelled for a cancelled one.
        result: what an ended job returned; None also where results are not kept (`ignore_result`).
        step: if this is a later step of a flow, the earlier one that it waits for and that has come furthest.
        streamed: whether its chunks can be read (`JobResult.stream`): a worker has accepted the call, which was made with
            `using(stream=True)`.
    """

    task_id: str
    state: str
    reason: str | None = None
    progress: Any = None
    job_id: str | None = None
    seconds: float | None = None
    ended: bool = False
    error: BaseException | None = None
    result: Any = field(default=None, repr=False)
    step: JobUpdate | None = None
    streamed: bool = False

    def differs(self, other: JobUpdate | None) -> bool:
        """Whether more than the time has passed since the other one."""
        return other is None or _timeless(self) != _timeless(other)


def _timeless(update: JobUpdate) -> JobUpdate:
    step = None if update.step is None else _timeless(update.step)
    return replace(update, seconds=None, step=step)


def as_cancelled(stored: Any, task_id: str) -> JobCancelled:
    """The typed error of a task that is REVOKED, from what Celery has stored for it: a TaskRevokedError, or nothing that
    can be read."""
    if isinstance(stored, JobCancelled):
        return stored
    how = str(stored.args[0]) if isinstance(stored, TaskRevokedError) and stored.args else "revoked"
    return JobCancelled(how, task_id=task_id)
