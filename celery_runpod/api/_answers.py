"""RunPod's JSON as types: a job, the health of an endpoint, the policy of a job. Milliseconds become seconds here.

Parsing is pure and tolerant: a field of another type counts as missing, unknown fields are ignored, an unknown state is
kept and is not final. An answer without id or status is refused.

Not here: reading one field (``_fields.py``), a FAILED job's `error` as an exception (``_handler_errors.py``), HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from celery_runpod.api._depth import MAX_DEPTH, too_deep
from celery_runpod.api._durations import MAX_S, MIN_EXECUTION_TIMEOUT_S, MIN_TTL_S, bounded, milliseconds
from celery_runpod.api._fields import count, kind_of, mapping, number, seconds_of, text
from celery_runpod.api._handler_errors import read_error
from celery_runpod.errors import (
    BadAnswer,
    InvalidOption,
    JobCancelled,
    JobError,
    JobFailed,
    JobTimedOut,
    OutputTooDeep,
)

FINAL_STATES = frozenset({"COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"})
"""States that a job does not leave (docs.runpod.io/serverless/endpoints/job-states)."""


@dataclass(frozen=True)
class Policy:
    """Limits of one job (docs.runpod.io/serverless/endpoints/send-requests); None leaves it to the endpoint.
    Durations are seconds or `timedelta`.

    Args:
        execution_timeout: for the handler's work; 5 s to 7 days, 600 s unless the endpoint says otherwise.
        ttl: from submit to the job's end, waiting included; 10 s to 7 days, 24 hours by default. At its end RunPod
            deletes the job, whatever its state.
        low_priority: the job does not make RunPod start further workers.

    Raises:
        InvalidOption: out of these bounds.

    >>> Policy(execution_timeout=900, low_priority=True).to_json()
    {'executionTimeout': 900000, 'lowPriority': True}
    """

    execution_timeout: float | timedelta | None = None
    ttl: float | timedelta | None = None
    low_priority: bool | None = None

    def __post_init__(self) -> None:
        bounded("execution_timeout", self.execution_timeout, MIN_EXECUTION_TIMEOUT_S, MAX_S)
        bounded("ttl", self.ttl, MIN_TTL_S, MAX_S)
        if self.low_priority is not None and not isinstance(self.low_priority, bool):
            raise InvalidOption("low_priority", repr(self.low_priority), "True or False")

    def to_json(self) -> dict[str, Any]:
        """As RunPod wants it: milliseconds; what is None is left out."""
        body: dict[str, Any] = {}
        if self.execution_timeout is not None:
            body["executionTimeout"] = milliseconds(self.execution_timeout)
        if self.ttl is not None:
            body["ttl"] = milliseconds(self.ttl)
        if self.low_priority is not None:
            body["lowPriority"] = self.low_priority
        return body


@dataclass(frozen=True)
class Job:
    """A job as RunPod answers it (docs.runpod.io/serverless/endpoints/operation-reference). Times are seconds.

    Args:
        id: RunPod's id, an opaque text.
        state: RunPod's state; RUNNING becomes IN_PROGRESS. A state that is not documented is kept, and is not final.
        output: the result; while IN_PROGRESS the handler's latest progress. A generator handler's is `[]` unless it
            sets `return_aggregate_stream`.
        error: the `error` of a FAILED job, any JSON value; `failure()` reads it.
        has_output: RunPod sent an `output`, possibly null. A COMPLETED job may have none: RunPod drops an empty dict, and
            loses a result over about 20 MB.
        delay_s: seconds from submit to the start of the work; None if RunPod does not say.
        execution_s: seconds that the handler ran; None if RunPod does not say.
        worker_id: the RunPod worker that took the job; None if RunPod does not say.
        retries: how often RunPod itself began the job again.
        too_deep: the output or the error is nested deeper than 64 levels. It is None here, and a COMPLETED job counts as
            failed with OutputTooDeep.

    Output and error are left out of the repr: they may be large and private.
    """

    id: str
    state: str
    output: Any = field(default=None, repr=False)
    error: Any = field(default=None, repr=False)
    has_output: bool = False
    delay_s: float | None = None
    execution_s: float | None = None
    worker_id: str | None = None
    retries: int = 0
    too_deep: bool = field(default=False, repr=False)

    @property
    def final(self) -> bool:
        """Whether the job has ended."""
        return self.state in FINAL_STATES

    @property
    def without_output(self) -> bool:
        """COMPLETED, and RunPod sent no output: the handler had none, or RunPod lost it."""
        return self.state == "COMPLETED" and self.output is None and not self.has_output

    def failure(self, endpoint: str | None = None, task_id: str | None = None) -> JobError | None:
        """The error that the job ended with: JobFailed, JobTimedOut, JobCancelled or OutputTooDeep, with `endpoint`
        and `task_id` on it; None for a COMPLETED job, and for one that has not ended.

        >>> failed = Job("9f-u1", "FAILED", error={"error_type": "<class 'ValueError'>", "error_message": "no face"})
        >>> print(failed.failure("sdxl"))
        ValueError: no face (endpoint sdxl, job 9f-u1)
        """
        if self.state == "CANCELLED":
            return JobCancelled("the job was cancelled at RunPod", endpoint, task_id, self.id)
        if self.state == "TIMED_OUT":
            why = read_error(self.error).message or "it ran over its execution timeout, or its time to live"
            return JobTimedOut(f"RunPod ended the job: {why}", endpoint, task_id, self.id)
        if self.state == "COMPLETED" and self.too_deep:
            problem = (
                f"the job is COMPLETED, but its output is nested deeper than {MAX_DEPTH} levels and was not taken; "
                f"RunPod keeps it for 30 minutes after the job's end: GET /v2/<endpoint id>/status/{self.id}"
            )
            return OutputTooDeep(problem, endpoint, task_id, self.id)
        if self.state != "FAILED":
            return None
        read = read_error(self.error)
        message = read.message or (
            f"the job failed, and its error is nested deeper than {MAX_DEPTH} levels, so it was not taken"
            if self.too_deep
            else "the job failed without an error; what its output says is in `output`"
            if self.has_output
            else "the job failed, and RunPod gave neither an error nor an output: look into the worker's log"
        )
        worker_id = self.worker_id or read.worker_id
        return JobFailed(
            message, endpoint, task_id, self.id, read.error_type, read.traceback, self.error, self.output, worker_id
        )

    def result(self) -> Any:
        """The output of a COMPLETED job.

        Raises:
            JobFailed, JobTimedOut, JobCancelled, OutputTooDeep: how the job ended.
            JobError: the job has not ended.
        """
        if failed := self.failure():
            raise failed
        if not self.final:
            raise JobError(f"the job has not ended: it is {self.state}", None, None, self.id)
        return self.output


@dataclass(frozen=True)
class Health:
    """Jobs and workers of an endpoint (GET /health); what RunPod leaves out counts as 0.

    Jobs: `completed`, `failed`, `in_progress`, `in_queue`, `retried`.
    Workers: `idle`, `initializing`, `ready`, `running`, `throttled`, `unhealthy`.
    """

    completed: int = 0
    failed: int = 0
    in_progress: int = 0
    in_queue: int = 0
    retried: int = 0
    idle: int = 0
    initializing: int = 0
    ready: int = 0
    running: int = 0
    throttled: int = 0
    unhealthy: int = 0


def parse_job(data: Any, *, job_id: str | None = None) -> Job:
    """A job from an answer's or a webhook's JSON. `job_id` is that of the job that was asked about; an answer need not
    repeat it.

    Raises:
        BadAnswer: not an object, or no id, or no status; or it is about another job.

    >>> parse_job({"id": "9f-u1", "status": "COMPLETED", "output": {"ok": True}, "delayTime": 1500}).delay_s
    1.5
    """
    if not isinstance(data, Mapping):
        raise BadAnswer(f"the answer is {kind_of(data)}, not an object")
    found, state, worker_id = data.get("id"), data.get("status"), data.get("workerId")
    named = text(found) or job_id
    if not named:
        raise BadAnswer("the answer has no job id")
    if job_id and named != job_id:
        # A cache or a proxy on the way has mixed up two answers.
        raise BadAnswer("the answer is about another job", job_id=job_id)
    if not isinstance(state, str) or text(state) is None:
        raise BadAnswer("the answer has no status", job_id=named)
    output, error = data.get("output"), data.get("error")
    deep_output, deep_error = bool(too_deep(output)), bool(too_deep(error))
    return Job(
        id=named,
        state="IN_PROGRESS" if state == "RUNNING" else state,
        output=None if deep_output else output,
        error=None if deep_error else error,
        has_output="output" in data,
        delay_s=seconds_of(data.get("delayTime")),
        execution_s=seconds_of(data.get("executionTime")),
        worker_id=text(worker_id),
        retries=count(data.get("retries")),
        too_deep=deep_output or deep_error,
    )


def parse_health(data: Any) -> Health:
    """The answer of GET /health.

    Raises:
        BadAnswer: not an object.
    """
    if not isinstance(data, Mapping):
        raise BadAnswer(f"the answer is {kind_of(data)}, not an object")
    jobs, workers = mapping(data.get("jobs")), mapping(data.get("workers"))
    return Health(
        completed=count(jobs.get("completed")),
        failed=count(jobs.get("failed")),
        in_progress=count(jobs.get("inProgress")),
        in_queue=count(jobs.get("inQueue")),
        retried=count(jobs.get("retried")),
        idle=count(workers.get("idle")),
        initializing=count(workers.get("initializing")),
        ready=count(workers.get("ready")),
        running=count(workers.get("running")),
        throttled=count(workers.get("throttled")),
        unhealthy=count(workers.get("unhealthy")),
    )


def parse_removed(data: Any) -> int:
    """How many jobs POST /purge-queue removed.

    Raises:
        BadAnswer: the answer does not hold the number.
    """
    removed = number(data.get("removed")) if isinstance(data, Mapping) else None
    if removed is None:
        raise BadAnswer("the answer does not say how many jobs were removed")
    return int(removed)


def parse_chunks(data: Any) -> list[Any]:
    """The outputs in an answer of GET /stream: a chunk is `{"output": ...}`, perhaps with further fields. One that
    is nested deeper than 64 levels is None."""
    chunks = data.get("stream") if isinstance(data, Mapping) else None
    if not isinstance(chunks, list):
        return []
    outputs = [chunk["output"] if isinstance(chunk, Mapping) and "output" in chunk else chunk for chunk in chunks]
    return [None if too_deep(output) else output for output in outputs]
