"""Which Celery app of a process is the RunPod worker's: it has the tasks itself, so callers' tasks and fakes leave it."""

from __future__ import annotations

from celery import Celery

_MARK = "runpod_worker"


def mark_as_worker(app: Celery) -> None:
    """Say that this is the app of a RunPod worker. Called before it is finalized, when every other app gets the client
    task as `runpod.run`."""
    setattr(app, _MARK, True)


def is_worker(app: Celery) -> bool:
    """Whether this is the app of a RunPod worker."""
    return bool(getattr(app, _MARK, False))
