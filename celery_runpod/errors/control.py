"""Errors of what is asked of the workers about an endpoint: health, purge, retry.

Next: ``management.py``, for errors of pods and endpoints as things that are made.
"""

from __future__ import annotations

from dataclasses import dataclass

from celery_runpod.errors.base import RunPodError, about


@dataclass(eq=False)
class NoAnswer(RunPodError):
    """No RunPod worker answered in time. A worker that takes the message later leaves it alone; one that had begun goes
    on. `worker_up` tells whether any worker is up."""

    operation: str
    waited_s: float
    worker_up: bool | None = None
    endpoint: str | None = None
    task_id: str | None = None
    reason: str = ""

    def __str__(self) -> str:
        """A worker that has begun may still carry it out; where none is up, none will."""
        reason = f": {self.reason}" if self.reason else ""
        after = "it may still be carried out"
        if self.worker_up is False:
            after = "no RunPod worker is up: start `celery-runpod worker`"
        where = about(endpoint=self.endpoint, task=self.task_id)
        return f"no RunPod worker answered {self.operation} within {self.waited_s:g} s{reason}{where}; {after}"


@dataclass(eq=False)
class PurgeRefused(RunPodError):
    """Jobs of ours are being submitted to the endpoint (`submitting` so many), so that nobody could tell which of them a
    purge removes. Nothing was purged."""

    endpoint: str
    submitting: int

    def __str__(self) -> str:
        return (
            f"{self.submitting} jobs are being submitted to endpoint {self.endpoint} just now, and nobody could tell "
            "whether a purge removes them; nothing was purged: try again when they have been accepted"
        )


@dataclass(eq=False)
class RetryRefused(RunPodError):
    """A job cannot be run again; `problem` says why. Nothing was submitted."""

    task_id: str
    problem: str

    def __str__(self) -> str:
        return f"task {self.task_id} cannot be run again: {self.problem}"
