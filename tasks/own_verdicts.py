"""When a job ends by our own verdict, and with which error: deadline, start timeout, a job that RunPod does not know.

RunPod may have the result by then, so a job at RunPod gets a last look when its verdict is due. Arithmetic only; every
time is an argument.

Not here: the looks (``check.py``), recording an end (``delivery.py``).
"""

from __future__ import annotations

from celery_runpod._protocol import DAY_S
from celery_runpod._store.record import JobRecord
from celery_runpod._store.states import State
from celery_runpod.errors import (
    ApiError,
    DeadlineExceeded,
    EndpointNotFound,
    JobError,
    JobExpired,
    StartTimeout,
    StatusStuck,
    SubmissionUnconfirmed,
)

MISSING_S, ENDPOINT_MISSING_S = 5.0, 60.0
"""How long RunPod must answer 404 before a job ends. A replica that lags answers 404 about a job for a moment; a control
plane in trouble, or a key of another account, answers 404 about the whole endpoint."""

RETENTION_S, RETENTION_SYNC_S = 1800.0, 60.0
# docs.runpod.io/serverless/endpoints/job-states: results of /run are kept for 30 minutes, of /runsync for one
STUCK = "STATUS_STUCK"
"""The reason of a job whose /status says IN_PROGRESS though the job has ended."""


def verdict_at(job: JobRecord) -> float:
    """When our own verdict on a job is due, in seconds since 1970: at its deadline, or earlier at its start timeout
    while no RunPod worker has taken it. A SUBMITTING job may be at RunPod, so only its deadline counts."""
    if job.start_by is not None and job.state in (State.WAITING, State.IN_QUEUE):
        return min(job.start_by, job.end_by)
    return job.end_by


def kept_s(job: JobRecord) -> float:
    """How long RunPod keeps the job's result after its end."""
    return RETENTION_SYNC_S if job.options.sync else RETENTION_S


def decide_at(job: JobRecord, at: float, now: float) -> float:
    """When something must be decided on a job that is looked at next `at` a time. A verdict that is due already waits for
    that look."""
    return verdict_at(job) if verdict_at(job) > now else at


def verdict_on(job: JobRecord, now: float, why_queued: str = "") -> JobError | None:
    """The error with which a job ends at `now`; None before its verdict is due. `why_queued` explains a StartTimeout."""
    if now < verdict_at(job):
        return None
    if now < job.end_by:
        return _start_timeout(job, why_queued)
    if job.state is State.SUBMITTING:
        # Not DeadlineExceeded: RunPod may be running the job, so its idempotency key stays taken.
        return _unanswered(job)
    return status_stuck(job) if job.reason == STUCK else _deadline_exceeded(job)


def outlived_ttl(job: JobRecord, now: float) -> bool:
    """Whether a queued job is past its time to live at RunPod."""
    return job.state is State.IN_QUEUE and now >= _submitted_at(job) + (job.options.ttl or DAY_S)


def just_submitted(job: JobRecord, now: float, grace_s: float) -> bool:
    """Whether a 404 may come from a replica that has not heard of the job yet."""
    return now < _submitted_at(job) + grace_s


def missing(job: JobRecord, error: ApiError, now: float) -> tuple[str, float, float]:
    """What a 404 about a job means: (the reason to show, since when RunPod answers 404, when it counts as the job's end).

    The wait starts again after any other answer, and for a new attempt."""
    endpoint = isinstance(error, EndpointNotFound)
    reason = "ENDPOINT_NOT_FOUND" if endpoint else "JOB_NOT_FOUND"
    since = job.missing_since
    if since is None or job.reason != reason or since < _submitted_at(job):
        since = now
    return reason, since, since + (ENDPOINT_MISSING_S if endpoint else MISSING_S)


def expired(job: JobRecord, error: ApiError) -> JobError:
    """The error of a job that RunPod no longer knows."""
    problem = f"RunPod does not know this job any more ({error.message}): it expired there, or was lost"
    return JobExpired(problem, job.name, job.task_id, job.job_id)


def status_stuck(job: JobRecord) -> StatusStuck:
    """The error of a job that has ended while /status goes on saying IN_PROGRESS."""
    problem = (
        "/status went on saying IN_PROGRESS, though a webhook or its own executionTime said that the job had ended: a "
        "late progress_update of the handler hides the result at RunPod (runpod-python#250), and it cannot be fetched"
    )
    return StatusStuck(problem, job.name, job.task_id, job.job_id)


def _submitted_at(job: JobRecord) -> float:
    return job.submitted_at or job.accepted_at


def _deadline_exceeded(job: JobRecord) -> JobError:
    deadline_s = job.end_by - max(job.accepted_at, job.not_before)
    why = f" ({job.reason})" if job.reason else ""
    problem = f"the job did not end within {deadline_s:g} s; last state {job.state}{why}"
    return DeadlineExceeded(problem, job.name, job.task_id, job.job_id, deadline_s)


def _unanswered(job: JobRecord) -> JobError:
    problem = f"submit {job.attempt} got no answer before the deadline, and whether RunPod took it is not known"
    return SubmissionUnconfirmed(problem, job.name, job.task_id)


def _start_timeout(job: JobRecord, why_queued: str) -> JobError:
    start_timeout_s = (job.start_by or job.end_by) - max(job.accepted_at, job.not_before)
    reason = why_queued or job.reason
    why = f" ({reason})" if reason else ""
    problem = f"no RunPod worker took the job within {start_timeout_s:g} s{why}"
    return StartTimeout(problem, job.name, job.task_id, job.job_id, start_timeout_s)
