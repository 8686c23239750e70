"""Errors of pods and Serverless endpoints as things that are made and ended (`celery_runpod.api.ManagementClient`).

`kind` is "pod" or "endpoint".

Next: ``celery_runpod/api/management.py``.
"""

from __future__ import annotations

from dataclasses import dataclass

from celery_runpod.errors.api import RequestRejected
from celery_runpod.errors.base import RunPodError


@dataclass(eq=False)
class PodNotFound(RequestRejected):
    """RunPod knows no pod of this id (404, or 400 with these words from REST v1)."""

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
    """There is a pod or endpoint of this name already, so one more could not be told from it. Nothing was created."""

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
    """The create may or may not have reached RunPod, and looking for the name did not tell. It may exist, and bill; it
    was not sent again. `problem` is what became of the request."""

    kind: str
    name: str
    problem: str | None = None

    def __str__(self) -> str:
        why = f" ({self.problem})" if self.problem else ""
        return (
            f"RunPod did not confirm that the {self.kind} named {self.name!r} was created{why}, and looking for its name "
            "did not tell: it may exist and be paid for. Look for it before you create another"
        )


@dataclass(eq=False)
class PodNotRunning(RunPodError):
    """`ManagementClient.wait_until_running` gave up: the pod ended (`last_status` tells how), or the time was over."""

    pod_id: str
    waited_s: float
    last_status: str

    def __str__(self) -> str:
        return f"pod {self.pod_id} is not running after {self.waited_s:g} s: {self.last_status}"
