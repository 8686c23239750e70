"""What a task works with in its process: store, clients, budget, clock. Built after fork by `celery_app/process.py`.

Not here: how these are made. A task asks `services(self.app)` in its first line.

Next: ``run.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from celery import Celery

from celery_runpod.api import ManagementClient, RunPodClient
from config.settings import Settings
from tasks.budget import Budget
from tasks.store import JobStore
from tasks.store.record import Job


@dataclass(frozen=True)
class Services:
    """`client` and `management` give the REST clients of a named API key; `announce` shows a job's state on its
    AsyncResult and in Flower; `clock` answers seconds since the epoch, `spread` a random fraction, and `sleep` waits for
    seconds: all injected in tests."""

    app: Celery
    settings: Settings
    store: JobStore
    budget: Budget
    pool: ThreadPoolExecutor
    client: Callable[[str | None], RunPodClient]
    management: Callable[[str | None], ManagementClient]
    announce: Callable[[Job, str, Mapping[str, Any]], None]
    clock: Callable[[], float]
    spread: Callable[[], float]
    sleep: Callable[[float], None]

    def has_webhook(self, job: Job) -> bool:
        return self.settings.webhook_url is not None and job.options.webhook is not False

    def show(self, job: Job, state: str, news: Mapping[str, Any]) -> None:
        """Show the state of an open job; that of a shared one on every call that waits for it."""
        if not job.shares:
            self.announce(job, state, news)
            return
        for waiter in self.store.jobs(job.endpoint, self.store.waiters(job)):
            self.announce(replace(waiter, job_id=job.job_id, attempt=job.attempt), state, news)


def services(app: Celery) -> Services:
    """The services of this process."""
    found: Services = app.runpod_services()
    return found
