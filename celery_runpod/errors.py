"""Every error of celery-runpod, in one tree.

    RunPodError
    ├── ConfigurationError
    │   ├── NotConfigured
    │   ├── EagerMode
    │   └── MissingExtra
    ├── ConfigurationMismatch
    ├── InvalidOption
    ├── InvalidInput
    │   ├── PayloadTooLarge
    │   └── IdempotencyConflict
    ├── BrokerUnavailable
    ├── TooManyOpenJobs
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
    ├── ResultTimeout
    ├── FileRefused
    ├── FileUnavailable
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
        ├── OutputMissing
        ├── OutputTooDeep
        ├── StatusStuck
        ├── StreamIncomplete
        ├── JobUndeliverable
        └── SubmissionUnconfirmed

Celery sends an exception through JSON and rebuilds it as ``cls(*args)``. So every field is positional, is in ``args``,
and has a JSON-safe value; the text is made in ``__str__``. New fields go last, with a default.

Two are Celery's errors too, so that code that catches those goes on working: JobCancelled is a TaskRevokedError,
ResultTimeout a TimeoutError. Beside ``celery.exceptions`` this needs the standard library alone: every process that reads
results imports it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from celery.exceptions import TaskRevokedError
from celery.exceptions import TimeoutError as CeleryTimeoutError

__all__ = [
    "ApiError",
    "BadAnswer",
    "BrokerUnavailable",
    "ConfigurationError",
    "ConfigurationMismatch",
    "CreateUnconfirmed",
    "DeadlineExceeded",
    "EagerMode",
    "EndpointNotFound",
    "FileRefused",
    "FileUnavailable",
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
    "OutputMissing",
    "OutputTooDeep",
    "PayloadTooLarge",
    "PodNotFound",
    "PodNotRunning",
    "PurgeRefused",
    "RateLimited",
    "RequestRejected",
    "ResultTimeout",
    "RetryRefused",
    "RunPodError",
    "StartTimeout",
    "StatusStuck",
    "StreamIncomplete",
    "SubmissionUnconfirmed",
    "TooManyOpenJobs",
    "Unauthorized",
    "Unavailable",
    "WaitTimeout",
    "decode",
    "encode",
]


@dataclass(eq=False)
class RunPodError(Exception):
    """Base of all errors raised by celery-runpod."""

    def __post_init__(self) -> None:
        self.args = tuple(getattr(self, field.name) for field in fields(self))


def _about(**names: str | None) -> str:
    """What an error is about, as ` (endpoint sdxl, job 9f-u1)`; empty if no name is known.

    >>> _about(endpoint="sdxl", task=None)
    ' (endpoint sdxl)'
    """
    known = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in names.items() if value)
    return f" ({known})" if known else ""


@dataclass(eq=False)
class ConfigurationError(RunPodError):
    """A setting is wrong or missing. `problem` names it, the given value and what is allowed."""

    problem: str

    def __str__(self) -> str:
        return self.problem


@dataclass(eq=False)
class NotConfigured(ConfigurationError):
    """The process has no Celery app, broker, result backend or API key to work with."""


@dataclass(eq=False)
class EagerMode(ConfigurationError):
    """The Celery app runs its tasks in the caller's process (`task_always_eager`). An endpoint's job cannot run there; it
    would be published to the real broker, run on a GPU and be paid for. Nothing was published. A test puts a fake in the
    endpoint's place (`celery_runpod.testing`)."""


@dataclass(eq=False)
class MissingExtra(ConfigurationError):
    """A command or a function needs packages of an extra that is not installed; `problem` is the line to run."""


@dataclass(eq=False)
class ConfigurationMismatch(RunPodError):
    """The caller's Celery app and the RunPod workers do not share what both must share. `setting` is "broker", "result
    backend" or "job store", with the two URLs (passwords masked) in `here` and `workers`; or the name of one of Celery's
    settings, with its two values. Nothing was enqueued."""

    setting: str
    here: Any
    workers: Any

    def __str__(self) -> str:
        return (
            f"the {self.setting} of this process is {self.here}, and that of the RunPod workers is "
            f"{self.workers}. Calls, results or chords would never arrive, so nothing was enqueued"
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
    """An input, an id or a name cannot be sent to RunPod. Nothing was sent."""

    problem: str
    endpoint: str | None = None
    task_id: str | None = None

    def __str__(self) -> str:
        return f"{self.problem}{_about(endpoint=self.endpoint, task=self.task_id)}"


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
    """The broker, the result backend or the job store did not answer in time. `url` has its password masked. If
    `unconfirmed`, the broker may have the message: repeat the call with `task_id`. `member` is the index of the call in
    the group or chord header `group_id`, if it is part of one."""

    role: str
    url: str
    reason: str
    unconfirmed: bool = False
    task_id: str | None = None
    group_id: str | None = None
    member: int | None = None

    def __str__(self) -> str:
        if self.unconfirmed:
            task_id = self.task_id or "its task_id"
            text = (
                f"the {self.role} at {self.url} did not confirm the message: {self.reason}; it may have it. A repeat "
                f"with the same task_id ({task_id}) is run, and paid, once"
            )
        else:
            text = f"the {self.role} at {self.url} cannot be reached: {self.reason}; nothing was enqueued"
        return text + self._about_the_group()

    def _about_the_group(self) -> str:
        if self.member is None:
            return ""
        part = f" for member {self.member} of group {self.group_id}"
        before = (
            "" if not self.member else "; the members before it were enqueued, and run unless the group is cancelled"
        )
        return f"{part}{before}"


@dataclass(eq=False)
class TooManyOpenJobs(RunPodError):
    """The namespace holds as many open jobs, or bytes of input, as its bound allows: `given` of `most`. `setting` is the
    workers' variable that sets the bound. Nothing was enqueued."""

    namespace: str
    counted: str
    given: int
    most: int
    setting: str

    def __str__(self) -> str:
        return (
            f"namespace {self.namespace!r} holds {self.given} {self.counted}, and at most {self.most} are allowed "
            f"({self.setting} of the workers); nothing was enqueued: try again when jobs have ended"
        )


@dataclass(eq=False)
class ApiError(RunPodError):
    """RunPod's API did not do what was asked. `status` is the HTTP status, None without an answer."""

    message: str
    operation: str | None = None
    endpoint: str | None = None
    status: int | None = None
    job_id: str | None = None
    task_id: str | None = None

    def __str__(self) -> str:
        where = f"{self.operation}: " if self.operation else ""
        status = f"HTTP {self.status}: " if self.status is not None else ""
        return f"{where}{status}{self.message}{_about(endpoint=self.endpoint, job=self.job_id, task=self.task_id)}"


@dataclass(eq=False)
class RequestRejected(ApiError):
    """RunPod refused the request (a 4xx other than 429); a repeat does not help."""


@dataclass(eq=False)
class Unauthorized(RequestRejected):
    """RunPod does not accept the API key for this request (401, 403). No error holds the key."""


@dataclass(eq=False)
class EndpointNotFound(RequestRejected):
    """RunPod knows no endpoint of this id (404)."""

    def __str__(self) -> str:
        as_id = ". What no setting of the workers names (RUNPOD_ENDPOINT_<NAME>) is sent as RunPod's id"
        return f"{super().__str__()}{as_id if self.task_id else ''}"


@dataclass(eq=False)
class JobNotFound(RequestRejected):
    """RunPod knows no job of this id, or keeps it no longer (404)."""


@dataclass(eq=False)
class RateLimited(ApiError):
    """429: RunPod has not accepted the request. `retry_after_s` is its Retry-After in seconds, if it sent one."""

    retry_after_s: float | None = None


@dataclass(eq=False)
class Unavailable(ApiError):
    """No usable answer: connection trouble, a timeout, a 5xx, a redirect, 408, 425, 499, or a web page for a 404.

    `sent` is False when the request certainly did not reach RunPod (name lookup, refused or timed-out connect,
    TLS), and True when RunPod may have acted on it.
    """

    sent: bool = True


@dataclass(eq=False)
class BadAnswer(ApiError):
    """RunPod answered with success, but the body cannot be understood. RunPod may have acted on the request."""


@dataclass(eq=False)
class WaitTimeout(RunPodError):
    """`RunPodClient.wait` stopped waiting. The job goes on at RunPod."""

    endpoint: str
    job_id: str
    waited_s: float
    last_state: str

    def __str__(self) -> str:
        return (
            f"job {self.job_id} of endpoint {self.endpoint} was still {self.last_state} after {self.waited_s:g} s; "
            "it goes on at RunPod"
        )


@dataclass(eq=False)
class ResultTimeout(RunPodError, CeleryTimeoutError):
    """`JobResult.get(timeout=)` stopped waiting; the job goes on. `state` and `reason` are the job's at that moment, and
    `reason` is None if none is known. Also Celery's TimeoutError."""

    task_id: str
    waited_s: float
    state: str
    reason: str | None = None

    def __str__(self) -> str:
        reason = f" ({self.reason})" if self.reason else ""
        return f"task {self.task_id} was still {self.state}{reason} after {self.waited_s:g} s; it goes on"


@dataclass(eq=False)
class FileRefused(RunPodError):
    """`celery_runpod.files` does not read this: it holds no file, is over the bound in size, or has a URL that is not
    fetched. `where` is its place in the output. A repeat does not help."""

    problem: str
    where: str = "output"

    def __str__(self) -> str:
        return f"{self.where}: {self.problem}"


@dataclass(eq=False)
class FileUnavailable(RunPodError):
    """A web server did not give a file, or a bucket did not take one. `url` is without its query, which may be a
    signature; `status` the HTTP status, None without an answer. A repeat may help."""

    problem: str
    url: str
    status: int | None = None

    def __str__(self) -> str:
        status = f"HTTP {self.status}: " if self.status is not None else ""
        return f"{self.url}: {status}{self.problem}"


@dataclass(eq=False)
class NoAnswer(RunPodError):
    """No celery-runpod worker answered in time. A worker that takes the message later drops it; one that has begun goes
    on. `worker_up`: whether any worker is up, None if that is not known."""

    operation: str
    waited_s: float
    worker_up: bool | None = None
    endpoint: str | None = None
    task_id: str | None = None
    reason: str = ""

    def __str__(self) -> str:
        reason = f": {self.reason}" if self.reason else ""
        after = "it may still be carried out"
        if self.worker_up is False:
            after = "no RunPod worker is up: start `celery-runpod worker`"
        where = _about(endpoint=self.endpoint, task=self.task_id)
        return f"no RunPod worker answered {self.operation} within {self.waited_s:g} s{reason}{where}; {after}"


@dataclass(eq=False)
class PurgeRefused(RunPodError):
    """Jobs are being submitted to the endpoint (`submitting` is their number), and a purge may or may not remove them.
    Nothing was purged."""

    endpoint: str
    submitting: int

    def __str__(self) -> str:
        return (
            f"{self.submitting} jobs are being submitted to endpoint {self.endpoint}, and a purge may or may not "
            "remove them; nothing was purged: try again when RunPod has accepted them"
        )


@dataclass(eq=False)
class RetryRefused(RunPodError):
    """A job cannot be run again; `problem` says why. Nothing was submitted. `again_as`: the id of the task as which it
    was run again before, if that is why."""

    task_id: str
    problem: str
    again_as: str | None = None

    def __str__(self) -> str:
        return f"task {self.task_id} cannot be run again: {self.problem}"


@dataclass(eq=False)
class PodNotFound(RequestRejected):
    """RunPod knows no pod of this id (404, or a 400 that says so)."""

    pod_id: str | None = None


@dataclass(eq=False)
class NotOffered(RunPodError):
    """The version of RunPod's REST API that is in use does not have the operation, or one of its options; `offered_by`
    is the version that has it, `instead` says what else to do. Nothing was sent."""

    operation: str
    version: str
    offered_by: str
    instead: str | None = None

    def __str__(self) -> str:
        advice = f"; {self.instead}" if self.instead else ""
        return f"{self.operation}: RunPod's REST API {self.version} does not offer it, {self.offered_by} does{advice}"


@dataclass(eq=False)
class NameTaken(RunPodError):
    """A pod or endpoint of this name exists already, and a name must be unique to find what was created. Nothing was
    created."""

    kind: str
    name: str
    existing_id: str

    def __str__(self) -> str:
        article = "an" if self.kind.startswith(("a", "e", "i", "o", "u")) else "a"
        return (
            f"{article} {self.kind} named {self.name!r} exists already ({self.existing_id}): give another name, "
            "or none to have one made"
        )


@dataclass(eq=False)
class CreateUnconfirmed(RunPodError):
    """A create may or may not have reached RunPod, and looking for the name did not find out. What was to be created may
    exist and cost money. The create was not sent again. `problem` is what happened to the request."""

    kind: str
    name: str
    problem: str | None = None

    def __str__(self) -> str:
        why = f" ({self.problem})" if self.problem else ""
        return (
            f"RunPod did not confirm that the {self.kind} named {self.name!r} was created{why}, and looking for its name "
            "did not find out: it may exist and be paid for. Look for it before you create another"
        )


@dataclass(eq=False)
class PodNotRunning(RunPodError):
    """`ManagementClient.wait_until_running` gave up: the pod ended (see `last_status`), or the time was over."""

    pod_id: str
    waited_s: float
    last_status: str

    def __str__(self) -> str:
        return f"pod {self.pod_id} is not running after {self.waited_s:g} s: {self.last_status}"


@dataclass(eq=False)
class JobError(RunPodError):
    """A job ended without a result. `job_id` is RunPod's id, None when RunPod never accepted the job."""

    message: str
    endpoint: str | None = None
    task_id: str | None = None
    job_id: str | None = None

    def __str__(self) -> str:
        return f"{self.message}{_about(endpoint=self.endpoint, task=self.task_id, job=self.job_id)}"


@dataclass(eq=False)
class JobFailed(JobError):
    """The handler failed. `error_type` and `traceback` are the handler's, if RunPod gives them. `error` and `output` are
    RunPod's fields of these names, any JSON value."""

    error_type: str | None = None
    # Not in the `repr`, which logs and Flower show on one line.
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
class JobCancelled(JobError, TaskRevokedError):
    """The job was cancelled. Celery shows the task as REVOKED, and this is a TaskRevokedError too. `message` says how:
    "revoked", or "expired" if its `expires` came before its submit."""


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
    """RunPod no longer knows the job (404): its time to live ended, or RunPod deleted its result, before a worker saw its
    end."""


@dataclass(eq=False)
class JobPurged(JobError):
    """The job was removed from RunPod's queue by a purge before any worker took it."""


@dataclass(eq=False)
class OutputMissing(JobError):
    """RunPod says COMPLETED and gives no output. It loses a result over about 20 MB, and drops an empty dict. Call a
    handler that never has an output with `using(allow_empty_output=True)`."""

    # runpod-python#309; docs.runpod.io/serverless/workers/handler-functions, payload limits
    WHY = (
        "RunPod says COMPLETED and gives no output: it loses a result over about 20 MB (put a large one into object "
        "storage, and return its URL), and drops an empty dict; call a handler that never has an output with "
        "using(allow_empty_output=True), and no other: a lost result would count as a success"
    )


@dataclass(eq=False)
class OutputTooDeep(JobError):
    """The handler's output is nested deeper than 64 levels, so it was not read. RunPod keeps it for 30 minutes after the
    job's end (`GET /v2/<endpoint>/status/<job>`)."""


@dataclass(eq=False)
class StatusStuck(JobError):
    """The job has ended, but /status said IN_PROGRESS until RunPod's retention, or the deadline, was over: a late
    progress update hides the result (runpod-python#250). The job was cancelled at RunPod."""


@dataclass(eq=False)
class StreamIncomplete(JobError):
    """The handler yields its output in chunks, and some of them are lost: RunPod gives each chunk once. The job has
    ended, and RunPod has no whole output of it, because the handler does not set `return_aggregate_stream`."""


@dataclass(eq=False)
class JobUndeliverable(JobError):
    """The outcome was recorded, but repeated attempts to end the caller's task with it failed."""


@dataclass(eq=False)
class SubmissionUnconfirmed(JobError):
    """The job may or may not have been submitted: a submit got no answer, or the call is too old or too long lost for
    the store to know. It was not sent again, so that it is not paid for twice (`RUNPOD_UNCONFIRMED_SUBMIT=fail`)."""


def encode(error: RunPodError) -> dict[str, Any]:
    """`{"type": class name, "args": [...]}`: how an error is kept in a record. The inverse of `decode`."""
    return {"type": type(error).__name__, "args": list(error.args)}


def decode(data: dict[str, Any]) -> RunPodError:
    """The error that was encoded; a class that this version does not know becomes a plain `JobError`."""
    cls = globals().get(str(data.get("type")))
    if isinstance(cls, type) and issubclass(cls, RunPodError):
        # A newer version may have more fields, at the end.
        return cls(*data.get("args", ())[: len(fields(cls))])
    return JobError(f"{data.get('type')}: {data.get('args')}")
