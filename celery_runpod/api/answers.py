"""RunPod's answers as types: what is documented, and what is seen. Milliseconds end here.

Parsing is pure and liberal: a field of an odd type is as good as missing, an unknown state is not final.

Next: ``transport.py``.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from celery_runpod.errors import BadAnswer, InvalidOption, JobCancelled, JobError, JobFailed, JobTimedOut

# docs.runpod.io/serverless/endpoints/job-states
FINAL_STATES = frozenset({"COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"})
_TYPE = re.compile(r"<class '(?:.*\.)?([^'.]+)'>")
_GENERATOR_ERROR = re.compile(r"^handler: (?P<message>.*?)\s*traceback: (?P<traceback>.*)$", re.DOTALL)
_SECONDS_PER_DAY = 86_400


@dataclass(frozen=True)
class Policy:
    """Limits of a job (docs.runpod.io/serverless/endpoints/send-requests). Seconds.

    Raises:
        InvalidOption: execution timeout outside 5 s to 7 days, ttl outside 10 s to 7 days.
    """

    execution_timeout_s: float | None = None
    ttl_s: float | None = None
    low_priority: bool | None = None

    def __post_init__(self) -> None:
        for name, value, low in (("execution_timeout_s", self.execution_timeout_s, 5), ("ttl_s", self.ttl_s, 10)):
            if value is not None and not low <= value <= 7 * _SECONDS_PER_DAY:
                raise InvalidOption(name, value, f"{low} to {7 * _SECONDS_PER_DAY} seconds")

    def to_json(self) -> dict[str, Any]:
        """As RunPod wants it: milliseconds."""
        body: dict[str, Any] = {}
        if self.execution_timeout_s is not None:
            body["executionTimeout"] = round(self.execution_timeout_s * 1000)
        if self.ttl_s is not None:
            body["ttl"] = round(self.ttl_s * 1000)
        if self.low_priority is not None:
            body["lowPriority"] = self.low_priority
        return body


@dataclass(frozen=True)
class Job:
    """A job as RunPod tells it. `output` is the latest progress while IN_PROGRESS; times are seconds."""

    id: str
    state: str
    output: Any = field(default=None, repr=False)
    error: Any = None
    has_output: bool = False
    delay_s: float | None = None
    execution_s: float | None = None
    worker_id: str | None = None
    retries: int = 0

    @property
    def final(self) -> bool:
        return self.state in FINAL_STATES

    def failure(self, endpoint: str | None = None, task_id: str | None = None) -> JobError | None:
        """The error that this job ended with; None for COMPLETED, and for a job that has not ended."""
        if self.state == "CANCELLED":
            return JobCancelled("the job was cancelled at RunPod", endpoint, task_id, self.id)
        if self.state == "TIMED_OUT":
            text = _text(self.error) or "RunPod ended the job: over its execution timeout or its time to live"
            return JobTimedOut(text, endpoint, task_id, self.id)
        if self.state != "FAILED":
            return None
        message, kind, traceback = _read_error(self.error)
        if message is None:
            told = "" if not self.has_output else f"; its output: {_text(self.output)}"
            message = f"the handler failed without telling why{told}"
        return JobFailed(
            message, endpoint, task_id, self.id, kind, traceback, self.error, self.output, self.worker_id
        )


@dataclass(frozen=True)
class Health:
    """Jobs and workers of an endpoint (GET /health); what RunPod leaves out counts as 0."""

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


def parse_job(data: Any, *, job_id: str | None = None, operation: str | None = None) -> Job:
    """A job from an answer's or a webhook's JSON. `job_id` stands in where the answer does not repeat it.

    Raises:
        BadAnswer: not an object, or no id, or no state.
    """
    if not isinstance(data, Mapping):
        raise BadAnswer(f"the answer is a {type(data).__name__}, not an object", operation)
    found = data.get("id")
    named = found if isinstance(found, str) and found else job_id
    state = data.get("status")
    if not named:
        raise BadAnswer("the answer has no job id", operation)
    if not isinstance(state, str) or not state:
        raise BadAnswer("the answer has no status", operation, None, None, named)
    worker_id = data.get("workerId")
    return Job(
        id=named,
        state="IN_PROGRESS" if state == "RUNNING" else state,
        output=data.get("output"),
        error=data.get("error"),
        has_output="output" in data,
        delay_s=_seconds(data.get("delayTime")),
        execution_s=_seconds(data.get("executionTime")),
        worker_id=worker_id if isinstance(worker_id, str) else None,
        retries=_count(data.get("retries")),
    )


def parse_health(data: Any) -> Health:
    """Raises BadAnswer if it is not an object."""
    if not isinstance(data, Mapping):
        raise BadAnswer(f"the answer is a {type(data).__name__}, not an object", "health")
    jobs, workers = _mapping(data.get("jobs")), _mapping(data.get("workers"))
    return Health(
        completed=_count(jobs.get("completed")),
        failed=_count(jobs.get("failed")),
        in_progress=_count(jobs.get("inProgress")),
        in_queue=_count(jobs.get("inQueue")),
        retried=_count(jobs.get("retried")),
        **{
            name: _count(workers.get(name))
            for name in ("idle", "initializing", "ready", "running", "throttled", "unhealthy")
        },
    )


def _read_error(error: Any) -> tuple[str | None, str | None, str | None]:
    """(message, type, traceback) of RunPod's `error`, which may be any JSON value."""
    if isinstance(error, str) and error.lstrip().startswith("{"):
        try:
            error = json.loads(error)
        except ValueError:
            return error, None, None
    if isinstance(error, str):
        if match := _GENERATOR_ERROR.match(error):
            return match["message"], None, match["traceback"]
        return error or None, None, None
    if isinstance(error, Mapping):
        kind, message = error.get("error_type"), error.get("error_message")
        if kind is not None or message is not None:
            named = _TYPE.fullmatch(str(kind).strip())
            return _text(message) or str(kind), named[1] if named else _text(kind), _text(error.get("error_traceback"))
    return _text(error), None, None


def _text(value: Any) -> str | None:
    if value is None or value == "":
        return None
    return value if isinstance(value, str) else json.dumps(value, default=str)[:2000]


def _seconds(value: Any) -> float | None:
    try:
        seconds = float(value) / 1000
    except (TypeError, ValueError, OverflowError):
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
