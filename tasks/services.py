"""What a task works with in its process: store, clients, budget, clock. A task calls `services_of(self.app)` first.

Not here: how they are made, after fork (`celery_app/process_services.py`).
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError, ReadOnlyError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from celery_runpod._store.record import JobRecord
from celery_runpod._store.store import JobStore
from celery_runpod.api import ManagementClient, RunPodClient
from celery_runpod.api._large_answers import one_answer
from config.settings import Settings
from tasks.budget import Budget

log = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")

INSIST_EVERY_S = 1.0
"""Pause between the tries of a step that must not be lost, while the store is away."""

AWAY = (OperationalError, RedisConnectionError, RedisTimeoutError, OutOfMemoryError, ReadOnlyError)
"""What store or broker raise while they cannot work for any job."""


@contextmanager
def apart(**fields: Any) -> Iterator[None]:
    """The work on one of many jobs. An error is logged with these fields, and the work on the others goes on.

    Raises:
        Exception: one of `AWAY`, which concerns all jobs.
    """
    try:
        yield
    except AWAY:
        raise
    except Exception:
        log.exception("work.failed", extra=fields)
    finally:
        log.debug("work.over", extra=fields)


def once(read: Callable[[], T]) -> Callable[[], T]:
    """A function that reads on its first use, and gives the same to all threads: what was read, or the error."""
    lock, found = threading.Lock(), Future[T]()

    def get() -> T:
        with lock:
            if not found.done():
                try:
                    found.set_result(read())
                except Exception as error:
                    found.set_exception(error)
        return found.result()

    return get


@dataclass(frozen=True)
class Services:
    """`client` and `management` give the REST clients of a named API key; `announce` shows a job's state on its
    AsyncResult and in Flower; `clock` returns seconds since 1970, `spread` a random fraction from 0 to 1, and `sleep`
    waits for seconds. Tests inject all of them. `takes_outcome` is given each job whose outcome was recorded, and
    says whether the running task (a check, `runpod.submit_sync`) delivers it itself."""

    app: Celery
    settings: Settings
    store: JobStore
    budget: Budget
    pool: ThreadPoolExecutor
    client: Callable[[str | None], RunPodClient]
    management: Callable[[str | None], ManagementClient]
    announce: Callable[[JobRecord, str, Mapping[str, Any]], None]
    clock: Callable[[], float]
    spread: Callable[[], float]
    sleep: Callable[[float], None]
    takes_outcome: Callable[[JobRecord], bool] = lambda _: False

    def has_webhook(self, job: JobRecord) -> bool:
        """Whether RunPod gets a webhook URL with this job."""
        return self.settings.webhook_url is not None and job.options.webhook is not False

    def side_by_side(
        self, work: Callable[[T], R], items: Iterable[T], until_done: Callable[[list[Future[R]]], object] = wait
    ) -> list[R]:
        """Do the work on each item in the pool. An exception is raised when all are done; `pool.map` would cancel those
        that have not begun. `until_done` returns when they are."""

        def do(item: T) -> R:
            with one_answer():
                return work(item)

        begun = [self.pool.submit(do, item) for item in items]
        try:
            until_done(begun)
        finally:
            # No effect, unless this thread was interrupted.
            for each in begun:
                each.cancel()
        return [each.result() for each in begun]

    def insist(self, work: Callable[[], R], away: Callable[[Exception], None], until: float = math.inf) -> R:
        """Do a step that must not be lost: again each `INSIST_EVERY_S` while the store is away. `away` hears of each try.

        Raises:
            redis.exceptions.RedisError, OSError: the store was still away at this time (s since 1970).
        """
        while True:
            try:
                return work()
            except (RedisError, OSError) as error:
                away(error)
                if self.clock() + INSIST_EVERY_S >= until:
                    raise
            self.sleep(INSIST_EVERY_S)

    def show(self, job: JobRecord, state: str, news: Mapping[str, Any]) -> None:
        """Show the state of an open job; for a shared job, on every call that waits for it."""
        if not job.shares:
            self.announce(job, state, news)
            return
        for waiter in self.store.jobs(job.endpoint, self.store.shared.waiters(job)):
            self.announce(replace(waiter, job_id=job.job_id, attempt=job.attempt), state, news)


def services_of(app: Celery) -> Services:
    """The services of this process."""
    found: Services = app.runpod_services()
    return found
