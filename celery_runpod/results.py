"""JobResult: an AsyncResult that knows the job behind it; and `cancel`.

While a job is open, the worker writes its state, RunPod's id, its progress and the reason for waiting into the result.
Afterwards the result is Celery's own. This module needs neither the worker's code nor the API key.
"""

from __future__ import annotations

import asyncio
import math
import time
import warnings
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import aclosing
from datetime import timedelta
from typing import Any
from uuid import UUID

from celery import Celery, states
from celery.exceptions import TimeoutError as CeleryTimeoutError
from celery.result import AsyncResult, ResultBase
from redis.exceptions import RedisError

from celery_runpod import _stand_ins
from celery_runpod._call_rules import as_text
from celery_runpod._cancelling import publish_cancel
from celery_runpod._connect import client_app, store_unavailable
from celery_runpod._flow import Flow
from celery_runpod._live import chunk_hub
from celery_runpod._live.chunks import Chunk, ChunkReader, checked_id
from celery_runpod._live.job_reader import JobReader, begin_watch, notes
from celery_runpod._live.job_update import EARLIER_STEP, NO_WORKER, JobUpdate, as_cancelled
from celery_runpod._live.update_hub import hub_of, until_over
from celery_runpod._live.watching import followed
from celery_runpod._store.store import JobStore, store_of
from celery_runpod.api._durations import bounded
from celery_runpod.errors import InvalidOption, JobError, ResultTimeout

__all__ = ["Chunk", "Flow", "JobResult", "JobUpdate", "cancel"]

_FIRST_LOOK_S, _LOOK_GROWS, _LONGEST_LOOK_S = 0.05, 1.5, 1.0
_NOTIFIED_S = 5.0
"""`get` waits for a notification, as Celery does, and reads the result again so often: a failover may lose one."""


class JobResult(AsyncResult):
    """The result of an endpoint's job, by task id; for example one that was kept in a database:

    >>> JobResult("3f1e9c7a-0000-4000-8000-000000000000").id
    '3f1e9c7a-0000-4000-8000-000000000000'
    """

    def __init__(
        self,
        id: str | UUID,
        backend: Any = None,
        task_name: str | None = None,
        app: Celery | None = None,
        parent: Any = None,
    ) -> None:
        # The parameters of AsyncResult, in its order: a pickle holds all of them.
        super().__init__(as_text(id), backend, task_name, app if app is not None else client_app(), parent)

    @classmethod
    def of(cls, result_or_id: str | UUID | ResultBase | Flow, *, app: Celery | None = None) -> Flow:
        """All steps of a chain, group or chord, or of a single call, from what its `.delay()` returned:

        >>> JobResult.of(chain(sdxl.s(prompt="a cat"), save.s())()).reason
        'COLD_START'

        From the id alone only the steps that are open at the moment are found, and the one of that id; and a group's id
        alone does not say when the group has ended. `result.as_tuple()` keeps all of it, for `result_from_tuple`.
        """
        return result_or_id if isinstance(result_or_id, Flow) else Flow(as_text(result_or_id), cls, app=app)

    @property
    def reason(self) -> str | None:
        """Why an open job is not running; None if it is, or if no reason is known.

        Before its turn in a flow: EARLIER_STEP (`JobResult.of` names the step that it waits for). Before its submit:
        COUNTDOWN, BUDGET, MAX_IN_FLIGHT, ON_HOLD (the endpoint is paused by hand), PAUSED, API_SLOW,
        RATE_LIMITED, API_DOWN, UNAUTHORIZED, UNCONFIRMED, RESUBMIT, RETRY, STORE_RESTARTED, NO_REPLICA (no replica of
        the job store has the intent), NO_WORKER (no celery-runpod worker is up). In RunPod's queue: COLD_START (workers
        are starting), NO_CAPACITY (throttled, or none), WORKERS_UNHEALTHY. At RunPod: API_REFUSES, ANSWER_UNREADABLE,
        JOB_NOT_FOUND, ENDPOINT_NOT_FOUND, STATUS_STUCK (/status hides the end, runpod-python#250).
        """
        if self.ready():
            return None
        if isinstance(self.backend, _stand_ins.InMemoryResults):
            return self._shown().get("reason") or None
        try:
            reader = self._reader()
            if not reader.workers.worker_up(time.time()):  # noqa: TID251 - the edge
                return NO_WORKER
            if job := reader.ids.job(self.id, shared=True):
                return job.get("reason") or None
            return EARLIER_STEP if self._waits_for_another(reader) else None
        except RedisError:
            return self._shown().get("reason") or None

    @property
    def progress(self) -> Any:
        """The handler's latest `progress_update`, while the job runs. Who reads it watches the job: as `watch`, it lets
        workers look once a second for some seconds, within their budget."""
        shown = self._shown()
        if shown:
            self._note_watched()
        return shown.get("progress")

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

    def watch(self, timeout: float | timedelta | None = None) -> Iterator[JobUpdate]:
        """How the job stands now, and then each change of state, reason or progress, from any process. It ends with the
        job: the last update has `ended`, and says how in `state`, `error` and `result`; no error is raised for it. While
        somebody watches, workers look at the job once a second, within their budget.

        Args:
            timeout: seconds or a `timedelta`; after it the updates end, though the job goes on. None: until the end.

        Raises:
            BrokerUnavailable: the job store has not answered for half a minute.
        """
        job_reader, app = JobReader(self.app), self.app
        try:
            for update in followed(lambda: job_reader.read_one(self.id), None, timeout_s=_seconds(timeout)):
                if isinstance(update, JobUpdate):
                    yield update
        except (RedisError, OSError) as error:
            raise store_unavailable(app, error) from None

    async def awatch(self, timeout: float | timedelta | None = None) -> AsyncIterator[JobUpdate]:
        """As `watch`, without blocking the event loop. All who watch in one event loop share one connection to Redis."""
        app = self.app
        async for update in until_over(app, lambda: hub_of(app).changes(self.id), _seconds(timeout)):
            yield update

    def stream(self, after: str | None = None, timeout: float | timedelta | None = None) -> Iterator[Chunk]:
        """What the handler yields, as it comes, until the job has ended; for a call made with `using(stream=True)`. From
        any process, by any number of readers: none takes a chunk from another.

        >>> for chunk in result.stream():
        ...     print(chunk.output, end="")

        Args:
            after: the `id` of a chunk, to go on behind it; None begins with the first.
            timeout: seconds or a `timedelta`; None: until the job ends.

        Raises:
            JobError: how the job ended, after its last chunk; StreamIncomplete if chunks are lost, and RunPod has no
                whole output.
            ResultTimeout: the job did not end in time, and goes on.
            InvalidOption: `after` is no chunk's id, or the call was made without `stream=True`.
            BrokerUnavailable: the job store has not answered for half a minute.
        """
        return self._streamed(checked_id(after), _seconds(timeout))

    def _streamed(self, after: str, timeout_s: float | None) -> Iterator[Chunk]:
        app, job_reader, reader = self.app, JobReader(self.app), ChunkReader(self.app, self.id, after)
        try:
            for one in followed(lambda: job_reader.read_one(self.id), reader, timeout_s=timeout_s):
                if isinstance(one, Chunk):
                    yield one
                elif one is not None and self._stream_over(one):
                    return
        except (RedisError, OSError) as error:
            raise store_unavailable(app, error) from None
        raise self._still_open(timeout_s)

    async def astream(self, after: str | None = None, timeout: float | timedelta | None = None) -> AsyncIterator[Chunk]:
        """As `stream`, without blocking the event loop. All who read in one event loop share one connection to Redis."""
        from_id, timeout_s = checked_id(after), _seconds(timeout)
        app = self.app
        news = until_over(app, lambda: chunk_hub.followed(app, self.id, from_id), timeout_s)
        async with aclosing(news) as found:
            async for one in found:
                if isinstance(one, Chunk):
                    yield one
                elif isinstance(one, JobUpdate) and self._stream_over(one):
                    return
        raise await asyncio.to_thread(self._still_open, timeout_s)

    def _stream_over(self, update: JobUpdate) -> bool:
        """Whether a stream ends with this update.

        Raises:
            JobError: how the job ended, if it did not succeed.
            InvalidOption: the call does not stream.
        """
        if not update.ended:
            if update.state != states.PENDING and not update.streamed:
                raise InvalidOption("stream", False, "True: this call was made without using(stream=True)")
            return False
        if update.error is not None:
            raise update.error
        if update.state != states.SUCCESS:
            raise JobError(f"the job ended as {update.state}, and its error is not kept", None, self.id)
        if not update.streamed:
            why = "True: this call was made without using(stream=True), or nothing is known of it any more"
            raise InvalidOption("stream", False, why)
        return True

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

    def get(self, timeout: float | timedelta | None = None, propagate: bool = True, *args: Any, **kwargs: Any) -> Any:
        """Wait for the job's end; its output, or its error is raised. None at once after a call with `ignore_result`. The
        other parameters are those of `AsyncResult.get`.

        Args:
            timeout: seconds or a `timedelta`; None waits until the job ends.

        Raises:
            ResultTimeout: the job did not end in time and goes on; it names state and reason, and is Celery's
                TimeoutError too.
            JobError: how the job ended; JobCancelled for one that was cancelled.
        """
        timeout_s = _seconds(timeout)
        give_up = math.inf if timeout_s is None else time.monotonic() + timeout_s
        while True:
            # A backend that sends no notifications is read all the time.
            most_s = _NOTIFIED_S if self.backend.is_async else math.inf
            left_s = min(most_s, max(0.0, give_up - time.monotonic()))
            try:
                return super().get(None if left_s == math.inf else left_s, propagate, *args, **kwargs)
            except CeleryTimeoutError:
                # What the task itself raised may be a TimeoutError too.
                if self._cache is not None:
                    raise
            if time.monotonic() >= give_up:
                raise self._still_open(timeout_s)

    wait = get

    async def aget(self, timeout: float | timedelta | None = None, propagate: bool = True) -> Any:
        """As `get`, without blocking the event loop.

        Raises:
            ResultTimeout, JobError: as for `get`.
        """
        loop = asyncio.get_running_loop()
        timeout_s = _seconds(timeout)
        give_up = None if timeout_s is None else loop.time() + timeout_s
        wait_s = _FIRST_LOOK_S
        while not self.ignored and not await asyncio.to_thread(self.ready):
            if give_up is not None and loop.time() >= give_up:
                raise await asyncio.to_thread(self._still_open, timeout_s)
            left = wait_s if give_up is None else min(wait_s, max(0.0, give_up - loop.time()))
            await asyncio.sleep(left)
            wait_s = min(wait_s * _LOOK_GROWS, _LONGEST_LOOK_S)
        return await asyncio.to_thread(lambda: self.get(propagate=propagate, disable_sync_subtasks=False))

    async def astate(self) -> str:
        """`state`, without blocking the event loop."""
        return str(await asyncio.to_thread(lambda: self.state))

    def _set_cache(self, d: dict[str, Any]) -> Any:
        if d["status"] == states.REVOKED:
            d = {**d, "result": as_cancelled(d["result"], self.id)}
        return super()._set_cache(d)

    def _still_open(self, waited_s: float | None) -> ResultTimeout:
        try:
            state, reason = self.state, self.reason
        except (RedisError, OSError):
            state, reason = states.PENDING, None
        return ResultTimeout(self.id, waited_s or 0.0, state, reason)

    def _waits_for_another(self, reader: JobStore) -> bool:
        """Whether this is a later step of a flow, and an earlier one is open."""
        if reader.ids.members(self.id) - {self.id}:
            return True
        return self.parent is not None and not self.parent.ready()

    def _note_watched(self) -> None:
        now = time.time()  # noqa: TID251 - the edge
        if _stand_ins.active() or not notes.due(self.id, now):
            return
        try:
            reader = self._reader()
            if endpoint := reader.ids.endpoint_of(self.id):
                job_id = reader.shared.followed(endpoint, self.id)
                if reader.watches.note(endpoint, job_id) is None:
                    begin_watch(reader, endpoint, job_id, now)
        except (RedisError, OSError):
            pass  # the progress itself was read; only the next one comes later

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


def _seconds(timeout: float | timedelta | None) -> float | None:
    return bounded("timeout", timeout, 0.0, math.inf)


def cancel(any_id: str | UUID | ResultBase | Iterable[str | UUID], *, app: Celery | None = None) -> None:
    """Cancel every open job under the same root as this job, group or step of a chain, at RunPod too. Later steps are
    not submitted. No worker needs to be up: the store keeps the request for a day.

    Raises:
        BrokerUnavailable: the job store does not answer; nothing was cancelled.
    """
    if isinstance(any_id, str | UUID):
        ids = [as_text(any_id)]
    elif isinstance(any_id, ResultBase):
        ids = list(dict.fromkeys(_ids_of(any_id)))
    else:
        ids = [as_text(one) for one in any_id]
    publish_cancel(app if app is not None else client_app(), ids, scope="tree")


def _ids_of(result: Any) -> Iterable[str]:
    if getattr(result, "id", None):
        yield result.id
    for child in getattr(result, "results", None) or ():
        yield from _ids_of(child)
