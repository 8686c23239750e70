"""Errors of RunPod's REST API: what an answer, or its absence, stands for.

Which answer is which error: ``celery_runpod/api/verdicts.py``.

Next: ``management.py``, for errors of pods and endpoints as things that are made.
"""

from __future__ import annotations

from dataclasses import dataclass

from celery_runpod.errors.base import RunPodError, about


@dataclass(eq=False)
class ApiError(RunPodError):
    """RunPod's REST API did not do what was asked. `status` is the HTTP status, None when there was no answer."""

    message: str
    operation: str | None = None
    endpoint: str | None = None
    status: int | None = None
    job_id: str | None = None
    task_id: str | None = None

    def __str__(self) -> str:
        where = f"{self.operation}: " if self.operation else ""
        status = f"HTTP {self.status}: " if self.status is not None else ""
        return f"{where}{status}{self.message}{about(endpoint=self.endpoint, job=self.job_id, task=self.task_id)}"


@dataclass(eq=False)
class RequestRejected(ApiError):
    """RunPod refused the request (a 4xx other than 429); sending it again will not help."""


@dataclass(eq=False)
class Unauthorized(RequestRejected):
    """RunPod does not accept the API key for this request (401, 403). The key itself is never part of the error."""


@dataclass(eq=False)
class EndpointNotFound(RequestRejected):
    """RunPod knows no endpoint of this id (404)."""


@dataclass(eq=False)
class JobNotFound(RequestRejected):
    """RunPod knows no job of this id, or no longer keeps it (404)."""


@dataclass(eq=False)
class RateLimited(ApiError):
    """429: RunPod has not taken the request. `retry_after_s` is its Retry-After in seconds, if it sent one."""

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
    """RunPod answered with success, but the body could not be understood. The request may have been acted on."""


@dataclass(eq=False)
class WaitTimeout(RunPodError):
    """`RunPodClient.wait` gave up waiting. The job goes on at RunPod."""

    endpoint: str
    job_id: str
    waited_s: float
    last_state: str

    def __str__(self) -> str:
        return (
            f"job {self.job_id} of endpoint {self.endpoint} was still {self.last_state} after {self.waited_s:g} s; "
            "it goes on at RunPod"
        )
