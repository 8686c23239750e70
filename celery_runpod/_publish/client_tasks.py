"""Tasks of this package in the caller's Celery apps: what they have in common, and how they get into every app.

Not here: the RunPod worker's own tasks (`celery_app/`), and what each client task does.
"""

from __future__ import annotations

from collections.abc import Callable

from celery import Celery, Task
from celery._state import _get_active_apps, connect_on_app_finalize

from celery_runpod._worker_mark import is_worker


class ClientSideTask(Task):
    """A task that runs in the caller's app."""

    abstract = True
    typing = False

    @classmethod
    def annotate(cls) -> None:
        """Ignores `task_annotations`, which are for the app's own tasks."""


def in_every_app(register: Callable[[Celery], None]) -> Callable[[Celery], None]:
    """Call `register` with every app of this process, except the RunPod worker's, once the app is finalized."""

    def register_unless_worker(app: Celery) -> None:
        if not is_worker(app):
            register(app)

    connect_on_app_finalize(register_unless_worker)
    for app in _get_active_apps():
        if app.finalized:
            register_unless_worker(app)
    return register_unless_worker
