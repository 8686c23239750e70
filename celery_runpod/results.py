"""JobResult: an AsyncResult that knows the job behind it; and `cancel`.

While a job is open its state, RunPod's id, progress and the reason for waiting stand on its result; afterwards the
result is Celery's own. Nothing here needs the worker's code or the API key.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from typing import Any

from celery import Celery, states
from celery.exceptions import TimeoutError as CeleryTimeoutError
from celery.result import AsyncResult, ResultBase
from redis.exceptions import RedisError

from celery_runpod._connect import (
    check_reachable,
    client_app,
    client_settings,
    store_unavailable,
)
from celery_runpod._protocol import CANCEL, Queues, Scope
from celery_runpod._publish.confirms import NOT_PUBLISHED
from celery_runpod._store.store import JobStore, store_of

log = logging.getLogger(__name__)

FIRST_LOOK_S, LOOK_GROWS, LONGEST_LOOK_S = 0.05, 1.5, 1.0


class JobResult(AsyncResult):
    """The result of an endpoint's job, by task id. Also for a task id that was kept in a database:

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
        # As AsyncResult's, whose pickle gives all of them in this order.
        super().__init__(id, backend, task_name, app if app is not None else client_app(), parent)

    @property
    def reason(self) -> str | None:
        """Why an open job is not running: COUNTDOWN, BUDGET, MAX_IN_FLIGHT, ON_HOLD (somebody has paused the endpoint),
        PAUSED, API_SLOW, RATE_LIMITED, API_DOWN, UNAUTHORIZED, UNCONFIRMED, RESUBMIT, RETRY, STORE_RESTARTED;
        at RunPod API_REFUSES, JOB_NOT_FOUND, ENDPOINT_NOT_FOUND; in its queue COLD_START (workers are starting),
        NO_CAPACITY (throttled, or none) or WORKERS_UNHEALTHY;
        STATUS_STUCK (RunPod's /status hides the end, runpod-python#250); or
        NO_WORKER (no celery-runpod worker is up); None otherwise."""
        if self.ready():
            return None
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
        return self._shown().get("job_id") or (self._reader().ids.job(self.id) or {}).get("job_id") or None

    @property
    def timings(self) -> dict[str, float]:
        """Seconds, where RunPod gave them: `delay_s` in its queue, `execution_s` on a GPU."""
        found = {**self._shown(), **(self._reader().ids.job(self.id) or {})}
        return {name: float(found[name]) for name in ("delay_s", "execution_s") if found.get(name) is not None}

    @property
    def error(self) -> BaseException | None:
        """The error that the job ended with, or None. Errbacks of an endpoint are called with the task id alone:
        this is where they find the error."""
        result = self._get_task_meta()["result"] if self.state in states.PROPAGATE_STATES else None
        return result if isinstance(result, BaseException) else None

    def cancel(self) -> None:
        """Cancel this job, at RunPod too, and what hangs on it; nothing if it has ended. A later step of a chain, whose
        turn has not come yet, is cancelled with the steps before it.

        Raises:
            BrokerUnavailable: the wish could not be handed over; nothing was cancelled.
        """
        try:
            is_job = self._reader().ids.is_job(self.id)
        except (RedisError, OSError) as error:
            raise store_unavailable(self.app, error) from None
        _publish_cancel(self.app, [self.id], scope="job" if is_job else "step")

    def revoke(self, *args: Any, **kwargs: Any) -> None:
        """Cancel the job; the same as `cancel`. It needs no worker to be up: the wish is kept until one is."""
        self.cancel()

    async def aget(self, timeout: float | None = None, propagate: bool = True) -> Any:
        """As `get`, for async code: waits without blocking the event loop.

        Args:
            timeout: seconds; None waits until the job ends.

        Raises:
            celery.exceptions.TimeoutError: it did not end in time; the job goes on.
        """
        loop = asyncio.get_running_loop()
        give_up = None if timeout is None else loop.time() + timeout
        wait_s = FIRST_LOOK_S
        while not await asyncio.to_thread(self.ready):
            if give_up is not None and loop.time() >= give_up:
                raise CeleryTimeoutError("The operation timed out.")
            left = wait_s if give_up is None else min(wait_s, max(0.0, give_up - loop.time()))
            await asyncio.sleep(left)
            wait_s = min(wait_s * LOOK_GROWS, LONGEST_LOOK_S)
        return await asyncio.to_thread(lambda: self.get(propagate=propagate, disable_sync_subtasks=False))

    def _shown(self) -> dict[str, Any]:
        """What the worker wrote beside an open state; empty once the result is the job's own."""
        meta = self._get_task_meta()
        if meta["status"] in states.READY_STATES or not isinstance(meta["result"], dict):
            return {}
        return dict(meta["result"])

    def _reader(self) -> JobStore:
        return store_of(self.app)


def cancel(any_id: str | ResultBase | Iterable[str], *, app: Celery | None = None) -> None:
    """Cancel by the id of a job, a group, or any step of a chain: every open job under the same root is cancelled,
    at RunPod too, and later steps are not submitted. Needs no worker to be up: the wish is kept for a day.

    Raises:
        BrokerUnavailable: the wish could not be handed over; nothing was cancelled.
    """
    if isinstance(any_id, str):
        ids = [any_id]
    elif isinstance(any_id, ResultBase):
        ids = list(dict.fromkeys(_ids_of(any_id)))
    else:
        ids = list(any_id)
    _publish_cancel(app if app is not None else client_app(), ids, scope="tree")


def cancel_calls(ids: Iterable[str], *, app: Celery) -> None:
    """Cancel calls that waited for a worker, each with what follows it, also if a worker has taken them meanwhile.

    Raises:
        BrokerUnavailable: as for `cancel`.
    """
    _publish_cancel(app, list(ids), scope="step")


def _ids_of(result: Any) -> Iterable[str]:
    if getattr(result, "id", None):
        yield result.id
    for child in getattr(result, "results", None) or ():
        yield from _ids_of(child)


def _publish_cancel(app: Celery, ids: list[str], *, scope: Scope) -> None:
    check_reachable(app)
    # Kept in the store first: the message may be lost with a worker, and a job may be accepted after it.
    try:
        store_of(app).cancels.wish_cancel(ids, time.time(), scope=scope)  # noqa: TID251 - the edge
    except (RedisError, OSError) as error:
        raise store_unavailable(app, error) from None
    try:
        app.send_task(
            CANCEL,
            args=(ids,),
            kwargs={"scope": scope},
            queue=Queues.of(client_settings().namespace).deliver,
            serializer="json",
            ignore_result=True,
        )
    except NOT_PUBLISHED as error:
        log.warning("the cancel of %s was kept, but not published; a worker finds it: %s", ", ".join(ids), error)
