"""Records as rows: what a list of jobs shows, in a terminal and in Django's admin.

A row has those fields of the record and the tombstone that it names itself. Not here: changing a record; nothing that
shows rows does that.
"""

from __future__ import annotations

import heapq
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from celery_runpod._store.record import LIGHT, read_light
from celery_runpod._store.states import State
from celery_runpod._store.store import JobStore

BATCH = 500
FIELDS = [*LIGHT, "progress"]
"""What is read of a record."""
HEAD = 10
"""So many jobs at least are read of an index at a time."""

Place = tuple[str, str]
"""An endpoint, and the task id of a job."""

REASONS = {
    "NO_WORKER": "no RunPod worker is up: start `celery-runpod worker`",
    "EARLIER_STEP": "an earlier step of its chain or chord has not ended",
    "COUNTDOWN": "its countdown or eta has not come yet",
    "BUDGET": "RunPod's rate limit for this endpoint is used up for the moment",
    "ON_HOLD": "submits were stopped by hand: `celery-runpod resume` lets them go on",
    "PAUSED": "submits are paused after trouble with RunPod's API; when it answers again, one job tries first",
    "API_SLOW": "a submit under way gets no answer; no other is sent meanwhile",
    "RATE_LIMITED": "RunPod answered 429; it is asked again later",
    "API_DOWN": "RunPod's API does not answer; it is asked again later",
    "UNAUTHORIZED": "RunPod refuses the API key; the worker asks again (RUNPOD_ON_UNAUTHORIZED=wait)",
    "API_REFUSES": "RunPod refuses the look at the job; it is asked again later",
    "ANSWER_UNREADABLE": "RunPod's answer about the job cannot be read: too large, cut off or no JSON; the log says it",
    "JOB_NOT_FOUND": "RunPod answers that it does not know the job; it is asked once more before that is believed",
    "ENDPOINT_NOT_FOUND": "RunPod answers that it does not know the endpoint; it is asked for a minute more",
    "COLD_START": "a RunPod worker is being started for it",
    "NO_CAPACITY": "RunPod has no worker for it: the endpoint's workers are throttled, or it has none",
    "WORKERS_UNHEALTHY": "the endpoint's workers are unhealthy: look at their logs in RunPod's console",
    "MAX_IN_FLIGHT": "as many jobs of this endpoint are at RunPod as its profile allows; it waits for a place",
    "RETRY": "the last attempt failed; it is submitted again later",
    "RESUBMIT": "the submit went unanswered, and is repeated (RUNPOD_UNCONFIRMED_SUBMIT=resubmit)",
    "STORE_RESTARTED": "Redis was restarted; nothing is submitted until the workers have compared what they remember",
    "NO_REPLICA": "no replica of the job store answers; nothing is submitted until one has the intent",
    "STATUS_STUCK": "the job has ended, but RunPod's /status goes on saying IN_PROGRESS (runpod-python#250)",
    "UNCONFIRMED": "the submit went unanswered: RunPod may or may not have the job, so it is not sent again",
}
"""Every reason why a job waits, as `JobResult.reason` gives it."""
WHYS = {
    "WAITING": "it is to be submitted at that time",
    "JOINED": "it waits for a job that it shares with other calls of its idempotency key; that is its deadline",
    "SUBMITTING": "it is being submitted; at that time the submit counts as unanswered",
    "IN_QUEUE": "it is in RunPod's queue; the next look is then",
    "IN_PROGRESS": "a RunPod worker runs it; the next look is then",
    "DELIVERED": "its end has reached the caller",
}


@dataclass(frozen=True)
class Row:
    """One job. Times are seconds since 1970; `next_at` is when it is looked at again, or delivered again;
    `progress` is JSON, and empty where there is none."""

    task_id: str
    endpoint: str
    name: str
    state: str
    next_at: float | None
    attempt: int = 0
    job_id: str | None = None
    checks: int | None = None
    reason: str = ""
    progress: str = ""
    accepted_at: float | None = None
    submitted_at: float | None = None
    end_by: float | None = None
    verdict: str | None = None
    ended_at: float | None = None
    delay_s: float | None = None
    execution_s: float | None = None
    labels: tuple[str, ...] = ()

    def next_in_s(self, now: float) -> float | None:
        return None if self.next_at is None else round(max(0.0, self.next_at - now), 1)

    def why(self) -> str:
        """In words: why the job stands where it stands."""
        if self.reason:
            return REASONS.get(self.reason, self.reason)
        return WHYS.get(self.state, "it has ended, and is being handed over to the caller")

    def to_json(self, now: float) -> dict[str, Any]:
        told = {
            "reason": self.reason or None,
            "progress": json.loads(self.progress) if self.progress else None,
            "next_in_s": self.next_in_s(now),
            "why": self.why(),
        }
        return {**asdict(self), **told}


def rows_of(reader: JobStore, endpoint: str, task_ids: Iterable[str]) -> list[Row | None]:
    """The rows of these tasks, in their order; None where there is no record."""
    return rows_at(reader, [(endpoint, task_id) for task_id in task_ids])


def rows_at(reader: JobStore, places: Sequence[Place]) -> list[Row | None]:
    """The same for tasks of several endpoints, in one round trip."""
    keys = reader.keys
    with reader.redis.pipeline(transaction=False) as pipe:
        for endpoint, task_id in places:
            pipe.hmget(keys.job(endpoint, task_id), FIELDS)
            for key in (keys.due, keys.look, keys.undelivered):
                pipe.zscore(key(endpoint), task_id)
        found = pipe.execute()
    rows = []
    for number, (endpoint, task_id) in enumerate(places):
        values, *times = found[4 * number : 4 * number + 4]
        raw = {name: value for name, value in zip(FIELDS, values, strict=True) if value is not None}
        rows.append(_row(endpoint, task_id, raw, min((at for at in times if at is not None), default=None)))
    return rows


def open_rows(reader: JobStore, wanted: str | None, limit: int, most_read: int | None = None) -> tuple[list[Row], int]:
    """The open jobs, the soonest to be looked at first, and how many there are beyond `limit`. Only the records of those
    that are shown are read.

    `wanted` is RunPod's id of an endpoint, or an endpoint's name; None means all. A name stands in the records alone, so
    each is asked for it. With `most_read` so many of an endpoint are asked; those behind are counted, and may have
    another name.
    """
    listed = reader.endpoints.all()
    if wanted is None or wanted in listed:
        jobs: _OpenJobs | _NamedJobs = _OpenJobs(reader, listed if wanted is None else [wanted])
    else:
        jobs = _NamedJobs(reader, listed, wanted, most_read)
    rows: dict[Place, Row | None] = {}
    shown: list[Row] = []
    # Few indexed jobs have ended meanwhile; in their place others are read.
    while len(shown) < limit and (
        more := [one for one in jobs.first(len(rows) + limit - len(shown)) if one not in rows]
    ):
        for start in range(0, len(more), BATCH):
            some = more[start : start + BATCH]
            rows.update(zip(some, rows_at(reader, some), strict=True))
        shown = [row for row in rows.values() if row is not None and row.state != State.DELIVERED]
    shown.sort(key=lambda row: (row.next_at is None, row.next_at or 0.0, row.task_id))
    return shown, max(0, jobs.total - len(rows))


def ended_rows(reader: JobStore, wanted: str | None, limit: int) -> list[Row]:
    """The calls that ended last, the newest first, while their tombstones are kept. `wanted` as for `open_rows`."""
    by_endpoint: dict[str, list[str]] = {}
    listed = reader.ids.ended()
    for endpoint, task_id in listed:
        by_endpoint.setdefault(endpoint, []).append(task_id)
    found = {
        (endpoint, row.task_id): row
        for endpoint, ids in by_endpoint.items()
        for row in rows_of(reader, endpoint, ids)
        if row is not None and row.state == State.DELIVERED and wanted in (None, endpoint, row.name)
    }
    return [found[one] for one in listed if one in found][:limit]


class _OpenJobs:
    """The open jobs of some endpoints, the soonest to be looked at first. Of each index only so much is read as is needed
    to know which come first."""

    def __init__(self, reader: JobStore, endpoints: Sequence[str]) -> None:
        self._reader, keys = reader, reader.keys
        kinds = (keys.due, keys.undelivered, keys.look)
        self._endpoint_of = {kind(endpoint): endpoint for kind in kinds for endpoint in endpoints}
        self._read = dict.fromkeys(self._endpoint_of, 0)
        self._read_until = dict.fromkeys(self._endpoint_of, -math.inf)
        self._at: dict[Place, float] = {}
        with reader.redis.pipeline(transaction=False) as pipe:
            for endpoint in endpoints:
                # Each job of the third index is in the first one too.
                pipe.zcard(keys.due(endpoint))
                pipe.zcard(keys.undelivered(endpoint))
            self.total = sum(pipe.execute())

    def first(self, count: int) -> list[Place]:
        """The first jobs, so many if there are."""
        each = max(HEAD, 2 * count // max(1, len(self._read)))
        while True:
            ordered = heapq.nsmallest(count, self._at, key=self._at.__getitem__)
            latest = self._at[ordered[-1]] if len(ordered) == count else math.inf
            # What follows in the others comes later than these.
            further = [key for key, until in self._read_until.items() if until < latest]
            if not further:
                return ordered
            self._read_on(further, each)
            each *= 2

    def _read_on(self, indexes: Sequence[str], each: int) -> None:
        with self._reader.redis.pipeline(transaction=False) as pipe:
            for key in indexes:
                pipe.zrange(key, self._read[key], self._read[key] + each - 1, withscores=True)
            found = pipe.execute()
        for key, some in zip(indexes, found, strict=True):
            self._read[key] += len(some)
            self._read_until[key] = some[-1][1] if len(some) == each else math.inf
            for task_id, at in some:
                place = (self._endpoint_of[key], task_id)
                self._at[place] = min(at, self._at.get(place, math.inf))


class _NamedJobs:
    """The open jobs of a name, the soonest to be looked at first."""

    def __init__(self, reader: JobStore, endpoints: Iterable[str], name: str, most_read: int | None) -> None:
        self._reader, self._name, self._most_read = reader, name, most_read
        self._behind = 0
        at = [one for endpoint in endpoints for one in self._of(endpoint)]
        self._ordered = [place for _, place in sorted(at)]
        self.total = len(self._ordered) + self._behind

    def first(self, count: int) -> list[Place]:
        return self._ordered[:count]

    def _of(self, endpoint: str) -> list[tuple[float, Place]]:
        redis, keys = self._reader.redis, self._reader.keys
        at: dict[str, float] = {}
        for key in (keys.look(endpoint), keys.due(endpoint), keys.undelivered(endpoint)):
            start, size = 0, BATCH
            while size == BATCH and (self._most_read is None or start < self._most_read):
                some: Any = redis.zrange(key, start, start + BATCH - 1, withscores=True)
                start, size = start + len(some), len(some)
                for task_id, score in some:
                    at[task_id] = min(score, at.get(task_id, math.inf))
            if size == BATCH and key != keys.look(endpoint):
                self._behind += max(0, int(redis.zcard(key)) - start)  # type: ignore[arg-type]
        ids, named = list(at), []
        for start in range(0, len(ids), BATCH):
            some = ids[start : start + BATCH]
            with redis.pipeline(transaction=False) as pipe:
                for task_id in some:
                    pipe.hmget(keys.job(endpoint, task_id), ["name", "state"])
                found = pipe.execute()
            for task_id, (name, state) in zip(some, found, strict=True):
                if name == self._name and state not in (None, State.DELIVERED):
                    named.append(task_id)
        return [(at[task_id], (endpoint, task_id)) for task_id in named]


def _row(endpoint: str, task_id: str, raw: dict[str, str], next_at: float | None) -> Row | None:
    try:
        found = read_light(endpoint, task_id, raw)
    except Exception:
        # Of another version, or damaged: an operator sees that it is there, and where to look.
        unreadable = "its record cannot be read: see celery-runpod jobs --aside"
        return Row(task_id, endpoint, raw.get("name") or endpoint, raw.get("state", ""), next_at, reason=unreadable)
    if found is None:
        return None
    given = {one.name: getattr(found, one.name) for one in fields(Row) if hasattr(found, one.name)}
    return Row(**{"state": State.DELIVERED, "next_at": next_at, **given})
