"""Every error of celery-runpod, in one tree.

    RunPodError
    ├── ConfigurationError
    │   ├── NotConfigured
    │   └── MissingExtra
    ├── ConfigurationMismatch
    ├── InvalidOption
    ├── InvalidInput
    │   ├── PayloadTooLarge
    │   └── IdempotencyConflict
    ├── BrokerUnavailable
    ├── ApiError
    │   ├── RequestRejected
    │   │   ├── Unauthorized
    │   │   ├── EndpointNotFound
    │   │   ├── JobNotFound
    │   │   └── PodNotFound
    │   ├── RateLimited
    │   ├── Unavailable
    │   └── BadAnswer
    ├── WaitTimeout
    ├── NotOffered
    ├── NameTaken
    ├── CreateUnconfirmed
    ├── PodNotRunning
    ├── NoAnswer
    ├── PurgeRefused
    ├── RetryRefused
    └── JobError
        ├── JobFailed
        ├── JobTimedOut
        ├── JobCancelled
        ├── StartTimeout
        ├── DeadlineExceeded
        ├── JobExpired
        ├── JobPurged
        ├── JobUndeliverable
        └── SubmissionUnconfirmed

Celery sends an exception through JSON as ``cls(*args)``. So every field is positional, is in
``args``, and has a JSON-safe value; the text is made in ``__str__``. New fields go last, with a default.

Here: configuration, input, jobs. ``api.py``: RunPod's REST API; ``control.py``: what is asked of the workers;
``management.py``: pods and endpoints as things that are made; ``base.py``: the base of all. Take them from here,
wherever they are defined.

Standard library alone: every process that reads results imports this.

Next: ``api.py``; or ``contract.py`` for what crosses between the processes.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from celery_runpod.errors.api import (
    ApiError,
    BadAnswer,
    EndpointNotFound,
    JobNotFound,
    RateLimited,
    RequestRejected,
    Unauthorized,
    Unavailable,
    WaitTimeout,
)
from celery_runpod.errors.base import RunPodError, about
from celery_runpod.errors.control import NoAnswer, PurgeRefused, RetryRefused
from celery_runpod.errors.management import CreateUnconfirmed, NameTaken, NotOffered, PodNotFound, PodNotRunning

__all__ = [
    "ApiError",
    "BadAnswer",
    "BrokerUnavailable",
    "ConfigurationError",
    "ConfigurationMismatch",
    "CreateUnconfirmed",
    "DeadlineExceeded",
    "EndpointNotFound",
    "IdempotencyConflict",
    "InvalidInput",
    "InvalidOption",
    "JobCancelled",
    "JobError",
    "JobExpired",
    "JobFailed",
    "JobNotFound",
    "JobPurged",
    "JobTimedOut",
    "JobUndeliverable",
    "MissingExtra",
    "NameTaken",
    "NoAnswer",
    "NotConfigured",
    "NotOffered",
    "PayloadTooLarge",
    "PodNotFound",
    "PodNotRunning",
    "PurgeRefused",
    "RateLimited",
    "RequestRejected",
    "RetryRefused",
    "RunPodError",
    "StartTimeout",
    "SubmissionUnconfirmed",
    "Unauthorized",
    "Unavailable",
    "WaitTimeout",
    "decode",
    "encode",
]


@dataclass(eq=False)
class ConfigurationError(RunPodError):
    """A setting is wrong or missing. `problem` says which, what was given and what is allowed."""

    problem: str

    def __str__(self) -> str:
        return self.problem


@dataclass(eq=False)
class NotConfigured(ConfigurationError):
    """The process has no Celery app, broker or result backend to work with."""


@dataclass(eq=False)
class MissingExtra(ConfigurationError):
    """A command needs packages of an extra that is not installed; `problem` is the line to run."""


@dataclass(eq=False)
class ConfigurationMismatch(RunPodError):
    """The caller's Celery app and the RunPod workers disagree on a setting that both must share."""

    setting: str
    here: Any
    workers: Any

    def __str__(self) -> str:
        return (
            f"{self.setting} is {self.here!r} in this process and {self.workers!r} in the RunPod workers; "
            "both must have the same value, or results and chords would never arrive"
        )


@dataclass(eq=False)
class InvalidOption(RunPodError):
    """An option of a call is unknown, missing or out of its bounds. Nothing was sent."""

    option: str
    given: Any
    allowed: str

    def __str__(self) -> str:
        return f"option {self.option!r}: {self.given!r} given; allowed: {self.allowed}"


@dataclass(eq=False)
class InvalidInput(RunPodError):
    """The input of a call cannot be sent to RunPod. Nothing was sent."""

    problem: str
    endpoint: str | None = None
    task_id: str | None = None

    def __str__(self) -> str:
        return f"{self.problem}{about(endpoint=self.endpoint, task=self.task_id)}"


@dataclass(eq=False)
class PayloadTooLarge(InvalidInput):
    """The request body is over RunPod's limit (10 MB for /run, 20 MB for /runsync:
    docs.runpod.io/serverless/endpoints/operation-reference). Nothing was sent."""

    size_bytes: int = 0
    limit_bytes: int = 0


@dataclass(eq=False)
class IdempotencyConflict(InvalidInput):
    """A call's `idempotency_key` belongs to a job with another input. Nothing was sent."""


@dataclass(eq=False)
class BrokerUnavailable(RunPodError):
    """The broker or the result backend could not be reached in time. `url` has its password masked; `unconfirmed` says
    that RabbitMQ may have the message all the same."""

    role: str
    url: str
    reason: str
    unconfirmed: bool = False

    def __str__(self) -> str:
        if self.unconfirmed:
            return (
                f"the {self.role} at {self.url} did not confirm the message: {self.reason}; it may have it. A repeat "
                "with the same task_id is run, and paid, once"
            )
        return f"the {self.role} at {self.url} cannot be reached: {self.reason}; nothing was enqueued"


@dataclass(eq=False)
class JobError(RunPodError):
    """A job ended without a result. `job_id` is RunPod's id, None when RunPod never accepted the job."""

    message: str
    endpoint: str | None = None
    task_id: str | None = None
    job_id: str | None = None

    def __str__(self) -> str:
        return f"{self.message}{about(endpoint=self.endpoint, task=self.task_id, job=self.job_id)}"


@dataclass(eq=False)
class JobFailed(JobError):
    """The handler failed. `error_type` and `traceback` are the handler's own where RunPod gives them;
    `error` is RunPod's `error` as it came (any JSON value), `output` what stood beside it."""

    error_type: str | None = None
    # Not in the `repr`, which stands in one line of logs and of Flower.
    traceback: str | None = field(default=None, repr=False)
    error: Any = field(default=None, repr=False)
    output: Any = field(default=None, repr=False)
    worker_id: str | None = None

    def __str__(self) -> str:
        kind = f"{self.error_type}: " if self.error_type else ""
        return f"{kind}{super().__str__()}"


@dataclass(eq=False)
class JobTimedOut(JobError):
    """RunPod ended the job: over its execution timeout or its time to live (state TIMED_OUT)."""


@dataclass(eq=False)
class JobCancelled(JobError):
    """The job was cancelled. Celery shows the task as REVOKED."""


@dataclass(eq=False)
class StartTimeout(JobError):
    """No RunPod worker took the job within `start_timeout_s` seconds; it was cancelled at RunPod."""

    start_timeout_s: float = 0.0


@dataclass(eq=False)
class DeadlineExceeded(JobError):
    """The job did not end within `deadline_s` seconds of its acceptance; it was cancelled at RunPod."""

    deadline_s: float = 0.0


@dataclass(eq=False)
class JobExpired(JobError):
    """RunPod no longer knows the job (404): its time to live or its retention ended before we saw its end."""


@dataclass(eq=False)
class JobPurged(JobError):
    """The job was removed from RunPod's queue by a purge before any worker took it."""


@dataclass(eq=False)
class JobUndeliverable(JobError):
    """The outcome was fetched, but repeated attempts to hand it over to the caller's task failed."""


@dataclass(eq=False)
class SubmissionUnconfirmed(JobError):
    """The submit may or may not have reached RunPod, and nothing told which; it was not sent again, so that the job
    is never paid for twice (setting `RUNPOD_UNCONFIRMED_SUBMIT=fail`)."""


def encode(error: RunPodError) -> dict[str, Any]:
    """`{"type": class name, "args": [...]}`: how an error is kept in a record. The inverse of `decode`."""
    return {"type": type(error).__name__, "args": list(error.args)}


def decode(data: dict[str, Any]) -> RunPodError:
    """The error that `encode` was given; a class that this version does not know becomes a plain `JobError`."""
    cls = globals().get(str(data.get("type")))
    if isinstance(cls, type) and issubclass(cls, RunPodError):
        # A newer version may have more fields; they come last.
        return cls(*data.get("args", ())[: len(fields(cls))])
    return JobError(f"{data.get('type')}: {data.get('args')}")


for _name in __all__:
    # Where they are public, wherever they are defined: tracebacks show it, and Celery finds an error of a result by it.
    globals()[_name].__module__ = __name__
