"""JobResult: an AsyncResult that knows the job behind it; and `cancel`.

While a job is open, the worker writes its state, RunPod's id, its progress and the reason for waiting into the result.
Afterwards the result is Celery's own. This module needs neither the worker's code nor the API key.
"""

from __future__ import annotations

import asyncio
import time
import warnings
from collections.abc import Iterable
from typing import Any

from celery import Celery, states
from celery.exceptions import TimeoutError as CeleryTimeoutError
from celery.result import AsyncResult, ResultBase
from redis.exceptions import RedisError

from celery_runpod import _stand_ins
from celery_runpod._cancelling import publish_cancel
from celery_runpod._connect import client_app, store_unavailable
from celery_runpod._store.store import JobStore, store_of

__all__ = ["JobResult", "cancel"]

_FIRST_LOOK_S, _LOOK_GROWS, _LONGEST_LOOK_S = 0.05, 1.5, 1.0


class JobResult(AsyncResult):
    """The result of an endpoint's job, by task id; for example one that was kept in a database:

    >>> JobResult("3f1e9c7a-0000-4000-8000-000000000000").id
    '3f1e9c7a-0000-4000-8000-000000000000'
    """

    def __init__(
        self,
        id: str,
        backend: Any = None,
        task_name: str | None = None,
        app: Celery | None = None,
        parent: Any = None,
    ) -> None:
        # The parameters of AsyncResult, in its order: a pickle holds all of them.
        super().__init__(id, backend, task_name, app if app is not None else client_app(), parent)

    @property
    def reason(self) -> str | None:
        """Why an open job is not running; None if it is, or if no reason is known.

        Before its submit: COUNTDOWN, BUDGET, MAX_IN_FLIGHT, ON_HOLD (the endpoint is paused by hand), PAUSED, API_SLOW,
        RATE_LIMITED, API_DOWN, UNAUTHORIZED, UNCONFIRMED, RESUBMIT, RETRY, STORE_RESTARTED, NO_WORKER (no celery-runpod
        worker is up). In RunPod's queue: COLD_START (workers are starting), NO_CAPACITY (throttled, or none),
        WORKERS_UNHEALTHY. At RunPod: API_REFUSES, JOB_NOT_FOUND, ENDPOINT_NOT_FOUND, STATUS_STUCK (/status hides the
        end, runpod-python#250).
        """
        if self.ready():
            return None
        if isinstance(self.backend, _stand_ins.InMemoryResults):
            return self._shown().get("reason") or None
        try:
            reader = self._reader()
            if not reader.workers.worker_up(time.time()):  # noqa: TID251 - the edge
                return "NO_WORKER"
            return (reader.ids.job(self.id) or {}).get("reason") or None
        except RedisError:
            return self._shown().get("reason") or None

    @property
    def progress(self) -> Any:
        """The handler's latest `progress_update`, while the job runs."""
        return self._shown().get("progress")

    @property
    def job_id(self) -> str | None:
        """RunPod's id of the job, once RunPod has accepted it."""
        return self._shown().get("job_id") or self._stored().get("job_id") or None

    @property
    def timings(self) -> dict[str, float]:
        """Seconds in RunPod's queue (`delay_s`) and on a GPU (`execution_s`); each only if RunPod gave it."""
        found = {**self._shown(), **self._stored()}
        return {name: float(found[name]) for name in ("delay_s", "execution_s") if found.get(name) is not None}

    @property
    def error(self) -> BaseException | None:
        """The error that the job ended with, or None. An errback of an endpoint gets the task id alone, and reads the
        error here."""
        result = self._get_task_meta()["result"] if self.state in states.PROPAGATE_STATES else None
        return result if isinstance(result, BaseException) else None

    def cancel(self) -> None:
        """Cancel this job, at RunPod too, and the tasks that follow it; no effect if it has ended. Cancelling a later
        step of a chain that has not begun also cancels the steps before it.

        Raises:
            BrokerUnavailable: the job store does not answer; nothing was cancelled.
        """
        if isinstance(self.backend, _stand_ins.InMemoryResults):
            self.backend.cancel(self.id)
            return
        try:
            is_job = self._reader().ids.is_job(self.id)
        except (RedisError, OSError) as error:
            raise store_unavailable(self.app, error) from None
        publish_cancel(self.app, [self.id], scope="job" if is_job else "step")

    def revoke(
        self,
        connection: Any = None,
        terminate: bool = False,
        signal: str | None = None,
        wait: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Cancel the job, as `cancel` does, also while no worker is up. The parameters are those of `AsyncResult.revoke`.

        Args:
            terminate: has no further effect: a job that runs is cancelled at RunPod in any case.
            connection, signal, wait, timeout: mean nothing here, because no process is killed and no worker answers. A
                warning says so if one is given.

        Raises:
            BrokerUnavailable: as for `cancel`.
        """
        given = {"connection": connection, "signal": signal, "wait": wait, "timeout": timeout}
        if ignored := [name for name, value in given.items() if value]:
            warnings.warn(f"JobResult.revoke() cancels the job and ignores {', '.join(ignored)}", stacklevel=2)
        self.cancel()

    async def aget(self, timeout: float | None = None, propagate: bool = True) -> Any:
        """As `get`, without blocking the event loop.

        Args:
            timeout: seconds; None waits until the job ends.

        Raises:
            celery.exceptions.TimeoutError: the job did not end in time; it goes on.
        """
        loop = asyncio.get_running_loop()
        give_up = None if timeout is None else loop.time() + timeout
        wait_s = _FIRST_LOOK_S
        while not await asyncio.to_thread(self.ready):
            if give_up is not None and loop.time() >= give_up:
                raise CeleryTimeoutError("The operation timed out.")
            left = wait_s if give_up is None else min(wait_s, max(0.0, give_up - loop.time()))
            await asyncio.sleep(left)
            wait_s = min(wait_s * _LOOK_GROWS, _LONGEST_LOOK_S)
        return await asyncio.to_thread(lambda: self.get(propagate=propagate, disable_sync_subtasks=False))

    def _shown(self) -> dict[str, Any]:
        """What the worker wrote with an open state; empty once the job has ended."""
        meta = self._get_task_meta()
        if meta["status"] in states.READY_STATES or not isinstance(meta["result"], dict):
            return {}
        return dict(meta["result"])

    def _stored(self) -> dict[str, Any]:
        """What the job store knows of the job."""
        if isinstance(self.backend, _stand_ins.InMemoryResults):
            return self.backend.notes(self.id)
        return self._reader().ids.job(self.id) or {}

    def _reader(self) -> JobStore:
        return store_of(self.app)


def cancel(any_id: str | ResultBase | Iterable[str], *, app: Celery | None = None) -> None:
    """Cancel every open job under the same root as this job, group or step of a chain, at RunPod too. Later steps are
    not submitted. No worker needs to be up: the store keeps the request for a day.

    Raises:
        BrokerUnavailable: the job store does not answer; nothing was cancelled.
    """
    if isinstance(any_id, str):
        ids = [any_id]
    elif isinstance(any_id, ResultBase):
        ids = list(dict.fromkeys(_ids_of(any_id)))
    else:
        ids = list(any_id)
    publish_cancel(app if app is not None else client_app(), ids, scope="tree")


def _ids_of(result: Any) -> Iterable[str]:
    if getattr(result, "id", None):
        yield result.id
    for child in getattr(result, "results", None) or ():
        yield from _ids_of(child)
