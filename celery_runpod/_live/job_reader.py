"""Reads how jobs stand: records and results, for one job or hundreds in one round trip.

An open job costs one round trip, which also notes that it is watched. Before a worker has accepted a call, and at its
end, there may be a second one. Results in another Redis than the job store are read in a round trip of their own.

A call that shares its job with others (`idempotency_key`) stands as that job does, and that job is noted as watched.

Not here: when to read again (``watching.py``, ``update_hub.py``).
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from celery import Celery, states
from celery.backends.redis import RedisBackend
from redis.client import NEVER_DECODE
from redis.exceptions import NoPermissionError

from celery_runpod import _stand_ins
from celery_runpod._connect import backend_of, store_url
from celery_runpod._live.job_update import EARLIER_STEP, NO_WORKER, JobUpdate, as_cancelled
from celery_runpod._store.states import OUTCOMES, State
from celery_runpod._store.store import JobStore, store_of

FIELDS = ("state", "reason", "progress", "job_id", "begun_at", "verdict", "ended_at", "stream", "joined")
MOST_STEPS = 10
"""So many open steps before a later one are read: a chord's body may wait for thousands."""
NOTE_EVERY_S = 2.0
MOST_NOTED = 10_000
MOST_REMEMBERED = 50_000
FURTHEST: tuple[str, ...] = (State.IN_PROGRESS, State.IN_QUEUE, State.SUBMITTING, State.WAITING, State.JOINED)
WITHOUT_RESULT: dict[str, str] = {State.COMPLETED: states.SUCCESS, State.CANCELLED: states.REVOKED}
"""Verdict -> Celery's state, where there is no result that says it. All else is a FAILURE."""

Record = Mapping[str, str]
Meta = Mapping[str, Any]


class Notes:
    """When this process noted a job as watched last, so that it does so once in `NOTE_EVERY_S`."""

    def __init__(self) -> None:
        self._noted: dict[str, float] = {}
        self._lock = threading.Lock()

    def due(self, task_id: str, now: float) -> bool:
        """Whether to note it now; then it counts as noted."""
        with self._lock:
            # A clock that was set back must not keep a job from being noted.
            if abs(now - self._noted.get(task_id, -NOTE_EVERY_S)) < NOTE_EVERY_S:
                return False
            if len(self._noted) >= MOST_NOTED:
                self._noted = {one: at for one, at in self._noted.items() if abs(now - at) < NOTE_EVERY_S}
            self._noted[task_id] = now
            return True


notes = Notes()
"""Those of this process: all who watch in it share them."""


def begin_watch(store: JobStore, endpoint: str, task_id: str, now: float) -> None:
    """Have a job looked at soon that nobody has watched until now. Rights that are older than this keep nobody from
    reading."""
    with suppress(NoPermissionError):
        store.watches.begin(endpoint, task_id, now)


class _Trip:
    """The commands of one round trip, each with the function that takes its answer."""

    def __init__(self, redis: Any) -> None:
        self.pipe = redis.pipeline(transaction=False)
        self._takers: list[tuple[Callable[[Any], None], bool]] = []

    def then(self, take: Callable[[Any], None], *, may_be_refused: bool = False) -> None:
        """`take` gets the answer of the command that was put on the pipe last, if Redis does not refuse it."""
        self._takers.append((take, may_be_refused))

    def go(self) -> bool:
        """Make the trip; False if there was nothing to ask."""
        if not self._takers:
            return False
        for (take, may_be_refused), answer in zip(self._takers, self.pipe.execute(raise_on_error=False), strict=True):
            if may_be_refused and isinstance(answer, NoPermissionError):
                continue
            if isinstance(answer, Exception):
                raise answer
            take(answer)
        return True


class JobReader:
    """Reads how jobs stand, and remembers what does not change: which endpoint a task id belongs to, which shared
    job its call waits for, and when it began.

    Used by one thread at a time.
    """

    def __init__(self, app: Celery, store: JobStore | None = None, noted: Notes = notes) -> None:
        self.backend = app.backend
        self.store = store_of(app) if store is None else store
        self.notes = noted
        self.endpoints: dict[str, str] = {}
        self.shared: dict[str, str] = {}
        self.begun: dict[str, float] = {}
        self.results_in_redis = isinstance(self.backend, RedisBackend)
        self.one_redis = self.results_in_redis and backend_of(app) == store_url(app)

    def read(self, ids: Iterable[str], now: float) -> dict[str, JobUpdate]:
        """How each of these jobs stands. `now`: seconds since 1970.

        Raises:
            redis.exceptions.RedisError: the job store or the result backend does not answer.
        """
        if len(self.endpoints) > MOST_REMEMBERED:
            for remembered in (self.endpoints, self.shared, self.begun):
                remembered.clear()
        if _stand_ins.active():
            results = _stand_ins.results_of(self.backend.app)
            return {task_id: _of_a_fake(results, task_id) for task_id in ids}
        return _Reading(self, list(dict.fromkeys(ids)), now).found()

    def read_one(self, task_id: str) -> JobUpdate:
        """How one job stands at the time of the call. Raises as `read`."""
        return self.read([task_id], time.time())[task_id]  # noqa: TID251 - the edge

    def forget(self, task_id: str) -> None:
        """This job is read no more."""
        for remembered in (self.endpoints, self.shared, self.begun):
            remembered.pop(task_id, None)


def _of_a_fake(results: _stand_ins.InMemoryResults, task_id: str) -> JobUpdate:
    """How a call stands in a test with fakes: there is no record."""
    meta, notes = results.get_task_meta(task_id), results.notes(task_id)
    state, value, streamed = str(meta["status"]), meta["result"], results.chunks(task_id) is not None
    if state not in states.READY_STATES:
        shown = value if isinstance(value, Mapping) else {}
        return JobUpdate(
            task_id, state, shown.get("reason"), shown.get("progress"), shown.get("job_id"), streamed=streamed
        )
    error = as_cancelled(value, task_id) if state == states.REVOKED else value if state == states.FAILURE else None
    result = value if state == states.SUCCESS else None
    return JobUpdate(
        task_id, state, job_id=notes.get("job_id"), ended=True, error=error, result=result, streamed=streamed
    )


class _Reading:
    """One reading: asks, round trip by round trip, until nothing is left to be asked."""

    def __init__(self, job_reader: JobReader, ids: list[str], now: float) -> None:
        self._job_reader, self._keys = job_reader, job_reader.store.keys
        self._ids, self._now = ids, now
        self._asked: set[tuple[str, str]] = set()
        self._records: dict[str, Record] = {}
        self._results: dict[str, Meta] = {}
        self._before: dict[str, list[str]] = {}
        self._begins: list[tuple[str, str]] = []
        self._worker_up = True

    def found(self) -> dict[str, JobUpdate]:
        while True:
            trip = _Trip(self._job_reader.store.redis)
            self._ask(trip)
            if not trip.go():
                break
        self._fetch_results_elsewhere()
        for endpoint, task_id in self._begins:
            begin_watch(self._job_reader.store, endpoint, task_id, self._now)
        return {task_id: self._update(task_id) for task_id in self._ids}

    # What to ask

    def _once(self, what: str, task_id: str) -> bool:
        first = (what, task_id) not in self._asked
        self._asked.add((what, task_id))
        return first

    def _ask(self, trip: _Trip) -> None:
        """Everything that can be asked now and was not."""
        if self._once("workers", ""):
            trip.pipe.zcount(self._keys.workers(), self._now, "+inf")
            trip.then(self._take_workers)
        for task_id in self._ids:
            self._ask_where(trip, task_id)
            if task_id not in self._job_reader.endpoints and self._once("before", task_id):
                self._ask_before(trip, task_id)
            if self._job_reader.one_redis and self._needs_result(task_id) and self._once("result", task_id):
                self._ask_result(trip, task_id)
        for step in {one for ids in self._before.values() for one in ids}:
            self._ask_where(trip, step)

    def _ask_where(self, trip: _Trip, task_id: str) -> None:
        """The record, or the endpoint that it belongs to."""
        endpoint = self._job_reader.endpoints.get(task_id)
        if endpoint is None:
            if self._once("place", task_id):
                trip.pipe.get(self._keys.task(task_id))
                trip.then(lambda raw: self._take_place(task_id, raw))
            return
        shared_id = self._job_reader.shared.get(task_id)
        if self._once("record", task_id):
            self._ask_record(trip, endpoint, task_id, watched=shared_id is None)
        if shared_id is not None and self._once("record", shared_id):
            self._ask_record(trip, endpoint, shared_id, watched=True)

    def _ask_record(self, trip: _Trip, endpoint: str, task_id: str, *, watched: bool) -> None:
        trip.pipe.hmget(self._keys.job(endpoint, task_id), list(FIELDS))
        trip.then(lambda values: self._take_record(task_id, values))
        if watched and self._job_reader.notes.due(task_id, self._now):
            self._job_reader.store.watches.note(endpoint, task_id, on=trip.pipe)
            # Rights that are older than the note of a watch do not keep anybody from reading.
            trip.then(lambda before: self._take_note(endpoint, task_id, before), may_be_refused=True)

    def _ask_before(self, trip: _Trip, task_id: str) -> None:
        """The open jobs that this one waits for, if it is a later step; and when its call was published."""
        trip.pipe.smembers(self._keys.root(task_id))
        trip.then(lambda found: self._take_before(task_id, found))
        trip.pipe.zscore(self._keys.outbox(), task_id)
        trip.then(lambda at: self._take_begun(task_id, at))

    def _ask_result(self, trip: _Trip, task_id: str) -> None:
        key = self._job_reader.backend.get_key_for_task(task_id)
        # The store's connection decodes; a result may be of a serializer whose bytes are no text.
        trip.pipe.execute_command("GET", key, **{NEVER_DECODE: True})
        trip.then(lambda raw: self._take_result(task_id, raw))

    def _fetch_results_elsewhere(self) -> None:
        wanted = [task_id for task_id in self._ids if self._needs_result(task_id)]
        backend = self._job_reader.backend
        if not wanted:
            return
        if self._job_reader.results_in_redis:
            raws = backend.client.mget([backend.get_key_for_task(task_id) for task_id in wanted])
            self._results |= {task_id: self._decoded(raw) for task_id, raw in zip(wanted, raws, strict=True)}
        else:
            self._results |= {task_id: backend.get_task_meta(task_id) for task_id in wanted}

    def _needs_result(self, task_id: str) -> bool:
        """Whether the record does not tell all: it has ended, or there is none."""
        if task_id in self._results:
            return False
        record = self._records.get(task_id)
        if record is None:
            return task_id not in self._job_reader.endpoints
        return not record or record["state"] in (*OUTCOMES, State.DELIVERED)

    # What was answered

    def _take_workers(self, up: int) -> None:
        self._worker_up = bool(up)

    def _take_place(self, task_id: str, raw: str | None) -> None:
        place = _json(raw)
        endpoint = place.get("endpoint") if isinstance(place, dict) else None
        if isinstance(endpoint, str):
            self._job_reader.endpoints[task_id] = endpoint

    def _take_record(self, task_id: str, values: list[str | None]) -> None:
        record = {name: value for name, value in zip(FIELDS, values, strict=True) if value is not None}
        # A record without a state is none.
        self._records[task_id] = record if "state" in record else {}
        if task_id not in self._job_reader.endpoints:
            return  # the record of a shared job, which was not itself asked for
        self._take_begun(task_id, record.get("begun_at"))
        if record.get("state") == State.JOINED and record.get("joined"):
            self._job_reader.shared[task_id] = record["joined"]
        else:
            self._job_reader.shared.pop(task_id, None)

    def _take_note(self, endpoint: str, task_id: str, before: str | None) -> None:
        if before is None:
            self._begins.append((endpoint, task_id))

    def _take_before(self, task_id: str, found: Iterable[str]) -> None:
        self._before[task_id] = sorted(set(found) - {task_id})[:MOST_STEPS]

    def _take_begun(self, task_id: str, at: str | float | None) -> None:
        if (begun := _number(at)) is not None:
            self._job_reader.begun[task_id] = begun

    def _take_result(self, task_id: str, raw: bytes | None) -> None:
        meta = self._decoded(raw)
        if (
            meta["status"] in states.READY_STATES
            or task_id not in self._job_reader.endpoints
            or task_id in self._records
        ):
            self._results[task_id] = meta
        else:
            # Read before its record: the job may end between the two. A result counts if it was read after the record.
            self._asked.discard(("result", task_id))

    def _decoded(self, raw: bytes | None) -> Meta:
        if not raw:
            return {"status": states.PENDING, "result": None}
        try:
            return dict(self._job_reader.backend.decode_result(raw))
        except Exception as error:
            # As `get()` would raise it. The other jobs of this reading are not affected.
            return {"status": states.FAILURE, "result": error}

    # What it means

    def _update(self, task_id: str) -> JobUpdate:
        record, meta = self._records.get(task_id) or {}, self._results.get(task_id) or {}
        status = str(meta.get("status", states.PENDING))
        if status in states.READY_STATES:
            return self._ended(task_id, record, status, meta["result"])
        if record.get("state") == State.DELIVERED:
            # Its result is not kept, or was forgotten.
            status = WITHOUT_RESULT.get(record.get("verdict", ""), states.FAILURE)
            return self._ended(task_id, record, status, None)
        if record:
            return self._open_job(task_id, record)
        # Not accepted yet, a later step, or a task of the user's own, which may say how far it has come.
        shown = meta.get("result")
        shown = shown if isinstance(shown, Mapping) else {}
        step = self._step_before(task_id)
        return self._open(task_id, status, shown.get("reason"), shown.get("progress"), shown.get("job_id"), step)

    def _open_job(self, task_id: str, record: Record) -> JobUpdate:
        shown = self._records.get(self._job_reader.shared.get(task_id, "")) or record
        state, progress = shown["state"], _json(shown.get("progress"))
        if state == State.DELIVERED:
            # A shared job whose end is on its way to this call.
            state = shown.get("verdict") or record["state"]
        update = self._open(task_id, state, shown.get("reason"), progress, shown.get("job_id"))
        return replace(update, streamed=_streamed(record))

    def _step_before(self, task_id: str) -> JobUpdate | None:
        """The open job before this step that has come furthest."""
        found = [(one, self._records.get(one) or {}) for one in self._before.get(task_id, ())]
        steps = [self._open_job(one, record) for one, record in found if record.get("state") in FURTHEST]
        return min(steps, key=lambda one: FURTHEST.index(one.state), default=None)

    def _open(
        self,
        task_id: str,
        state: str,
        reason: str | None,
        progress: Any,
        job_id: str | None,
        step: JobUpdate | None = None,
    ) -> JobUpdate:
        if not self._worker_up:
            reason = NO_WORKER
        elif step is not None:
            reason = EARLIER_STEP
        begun = self._job_reader.begun.get(task_id, None if step is None else self._job_reader.begun.get(step.task_id))
        return JobUpdate(
            task_id,
            state,
            reason or None,
            progress,
            job_id or None,
            None if begun is None else max(0.0, self._now - begun),
            step=step,
        )

    def _ended(self, task_id: str, record: Record, status: str, value: Any) -> JobUpdate:
        error: BaseException | None = None
        if status == states.REVOKED:
            error = as_cancelled(value, task_id)
        elif status in states.PROPAGATE_STATES and isinstance(value, BaseException):
            error = value
        begun, ended_at = self._job_reader.begun.get(task_id), _number(record.get("ended_at")) or self._now
        return JobUpdate(
            task_id,
            status,
            job_id=record.get("job_id") or None,
            seconds=None if begun is None else max(0.0, ended_at - begun),
            ended=True,
            error=error,
            result=value if status == states.SUCCESS else None,
            streamed=_streamed(record),
        )


def _streamed(record: Record) -> bool:
    """Whether the call was made with `using(stream=True)`; a tombstone says how many entries there were."""
    return "stream" in record


def _json(text: str | None) -> Any:
    """What a text of the store holds; None where it cannot be read: one damaged record must not stop the reading
    of all others."""
    try:
        return json.loads(text) if text else None
    except (ValueError, RecursionError):
        return None


def _number(text: str | float | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
