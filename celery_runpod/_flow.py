"""Flow: all steps of a canvas, and how they stand. `JobResult.of` makes one.

Not here: one step (``results.py``), and how it is read (`celery_runpod/_live/job_reader.py`).
"""

from __future__ import annotations

import math
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from celery import Celery, states
from celery.exceptions import TaskRevokedError
from celery.exceptions import TimeoutError as CeleryTimeoutError
from celery.result import GroupResult, ResultBase
from redis.exceptions import RedisError

from celery_runpod import _stand_ins
from celery_runpod._cancelling import publish_cancel
from celery_runpod._connect import client_app, store_unavailable
from celery_runpod._live.job_reader import JobReader
from celery_runpod._live.job_update import JobUpdate, as_cancelled
from celery_runpod._store.store import store_of
from celery_runpod.api._durations import bounded
from celery_runpod.errors import ResultTimeout

if TYPE_CHECKING:
    from celery_runpod.results import JobResult


class Flow:
    """All steps of a canvas, as `JobResult.of` gives them. Each property reads how they stand now."""

    def __init__(
        self, result_or_id: str | ResultBase, job_result: type[JobResult], *, app: Celery | None = None
    ) -> None:
        self._app = app or getattr(result_or_id, "app", None) or client_app()
        self._job_result = job_result
        self._known: dict[str, tuple[str, ...]] = {}
        """Task id -> the ids that must end before it, as far as the given result knows them."""
        self._by_id = isinstance(result_or_id, str)
        if isinstance(result_or_id, str):
            self.result: Any = job_result(result_or_id, app=self._app)
            self._last: tuple[str, ...] = (result_or_id,)
            self._known[result_or_id] = ()
        else:
            self.result = self._with_job_results(result_or_id)
            self._last = _order(self.result, (), self._known)
        self._job_reader = JobReader(self._app)

    def __repr__(self) -> str:
        return f"Flow({self.id!r})"

    @property
    def id(self) -> str:
        """The id of the result: of the last step, or of the group."""
        return str(self.result.id)

    @property
    def steps(self) -> list[JobResult]:
        """Every step, each before those that wait for it. From an id alone: those that are open, and the one of that
        id."""
        return [self._job_result(task_id, app=self._app) for task_id in self._ids()]

    @property
    def current(self) -> list[JobUpdate]:
        """The steps that run, or wait for something else than an earlier step; empty at the end."""
        return self._look()[0]

    @property
    def state(self) -> str:
        """The state of the flow: at its end SUCCESS, FAILURE or REVOKED; before that, the state of the first of
        `current`."""
        current, ends = self._look()
        if not _all_ended(ends):
            return current[0].state if current else states.PENDING
        found = {update.state for update in ends}
        return str(next((one for one in (states.FAILURE, states.REVOKED) if one in found), states.SUCCESS))

    @property
    def reason(self) -> str | None:
        """The reason of the first of `current`; as `JobResult.reason`."""
        return next((update.reason for update in self.current), None)

    @property
    def progress(self) -> Any:
        """The progress of the first of `current`; as `JobResult.progress`."""
        return next((update.progress for update in self.current), None)

    def ready(self) -> bool:
        """Whether the flow has ended."""
        return _all_ended(self._look()[1])

    def get(self, timeout: float | timedelta | None = None, propagate: bool = True) -> Any:
        """Wait for the end of the flow; the output of its last step, or a list of those of a group.

        Raises:
            ResultTimeout: it did not end in time; with state and reason of the step that runs.
            JobCancelled: a step was cancelled.
            Exception: what a step raised.
        """
        timeout_s = bounded("timeout", timeout, 0.0, math.inf)
        try:
            return self.result.get(timeout=timeout_s, propagate=propagate)
        except TaskRevokedError as error:
            # A group raises what is stored for its member.
            raise as_cancelled(error, self.id) from None
        except CeleryTimeoutError as error:
            if not isinstance(error, ResultTimeout) and self.ready():
                raise
        try:
            first = next(iter(self.current), None)
        except (RedisError, OSError):
            first = None
        if first is None:
            raise ResultTimeout(self.id, timeout_s or 0.0, states.PENDING)
        raise ResultTimeout(first.task_id, timeout_s or 0.0, first.state, first.reason)

    def cancel(self) -> None:
        """Cancel every step that is open, at RunPod too; later steps are not submitted.

        Raises:
            BrokerUnavailable: the job store does not answer; nothing was cancelled.
        """
        publish_cancel(self._app, list(dict.fromkeys([self.id, *self._ids()])), scope="tree")

    def _ids(self) -> list[str]:
        if not self._by_id or _stand_ins.active():
            return list(self._known)
        try:
            ids = store_of(self._app).ids
            place = ids.place(self.id)
            found = ids.members(self.id) | (set() if place is None else ids.members(place.root))
        except (RedisError, OSError) as error:
            raise store_unavailable(self._app, error) from None
        # The id of a group is no task's.
        is_group = place is None and self.id not in found and bool(found)
        return [*sorted(found - {self.id}), *(() if is_group else (self.id,))]

    def _with_job_results(self, result: Any) -> Any:
        """The same result with a JobResult for each task in it."""
        if isinstance(result, self._job_result) and result.parent is None:
            return result
        parent = None if result.parent is None else self._with_job_results(result.parent)
        if (children := getattr(result, "results", None)) is not None:
            found = [self._with_job_results(one) for one in children]
            return GroupResult(result.id, found, parent=parent, app=self._app)
        return self._job_result(result.id, app=self._app, parent=parent)

    def _look(self) -> tuple[list[JobUpdate], list[JobUpdate]]:
        """The current steps, and those with whose end the flow ends."""
        ids = self._ids()
        try:
            updates = self._job_reader.read(ids, time.time())  # noqa: TID251 - the edge
        except (RedisError, OSError) as error:
            raise store_unavailable(self._app, error) from None
        ends = [updates[one] for one in self._last if one in updates] or list(updates.values())
        open_steps = [] if _all_ended(ends) else [update for update in updates.values() if not update.ended]
        current = []
        for update in open_steps:
            before = [updates[one] for one in self._known.get(update.task_id, ()) if one in updates]
            if update.step is None and all(one.ended for one in before):
                current.append(update)
        return sorted(current, key=lambda update: update.state == states.PENDING), ends


def _all_ended(updates: list[JobUpdate]) -> bool:
    return all(update.ended for update in updates)


def _order(result: Any, before: tuple[str, ...], found: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Note each task of a result, and what must end before it; the ids with which the result ends."""
    if result.parent is not None:
        before = _order(result.parent, before, found)
    if isinstance(result, GroupResult):
        return tuple(last for one in result.results for last in _order(one, before, found))
    found.setdefault(result.id, before)
    return (result.id,)
