"""Records as rows: what a list of jobs shows, in a terminal and in Django's admin.

A row has those fields of the record and the tombstone that it names itself. Not here: changing a record; nothing that
shows rows does that.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any

from celery_runpod._store.record import LIGHT, read_light
from celery_runpod._store.states import State
from celery_runpod._store.store import JobStore

BATCH = 500

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
    ids, fields = list(task_ids), [*LIGHT, "progress"]
    keys = reader.keys
    with reader.redis.pipeline(transaction=False) as pipe:
        for task_id in ids:
            pipe.hmget(keys.job(endpoint, task_id), fields)
            for key in (keys.due, keys.look, keys.undelivered):
                pipe.zscore(key(endpoint), task_id)
        found = pipe.execute()
    rows = []
    for place, task_id in enumerate(ids):
        values, *times = found[4 * place : 4 * place + 4]
        raw = {name: value for name, value in zip(fields, values, strict=True) if value is not None}
        rows.append(_row(endpoint, task_id, raw, min((at for at in times if at is not None), default=None)))
    return rows


def open_rows(reader: JobStore, wanted: str | None, limit: int, most_read: int | None = None) -> tuple[list[Row], int]:
    """The open jobs, the soonest to be looked at first, and how many there are beyond `limit`.

    `wanted` is an endpoint's name or RunPod's id; None means all. A name stands in the records alone. With `most_read` a
    search for one reads so many records of an index; those behind are counted, and may have another name.
    """
    rows: list[Row] = []
    left_out = 0
    for endpoint in reader.endpoints.all():
        for key in (reader.keys.due(endpoint), reader.keys.undelivered(endpoint)):
            found, more = _open_rows_of(reader, endpoint, key, wanted, limit, most_read)
            rows += found
            left_out += more
    unique = {(row.endpoint, row.task_id): row for row in rows}
    ordered = sorted(unique.values(), key=lambda row: (row.next_at is None, row.next_at or 0.0, row.task_id))
    return ordered[:limit], left_out + max(0, len(ordered) - limit)


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


def _open_rows_of(
    reader: JobStore, endpoint: str, key: str, wanted: str | None, limit: int, most_read: int | None
) -> tuple[list[Row], int]:
    """The first `limit` open jobs of one index, and how many follow."""
    # Jobs of one endpoint may have been called by different names: a name is known from the record alone.
    every = wanted in (None, endpoint)
    rows: list[Row] = []
    left_out = start = 0
    batch = min(BATCH, limit)
    while True:
        ids: Any = reader.redis.zrange(key, start, start + batch - 1)
        start += len(ids)
        found = [row for row in rows_of(reader, endpoint, ids) if row is not None and row.state != "DELIVERED"]
        rows += [row for row in found if every or row.name == wanted]
        left_out += max(0, len(rows) - limit)
        del rows[limit:]
        if len(ids) < batch:
            return rows, left_out
        # The others of this index are known by their number alone.
        if (every and len(rows) == limit) or (most_read is not None and start >= most_read):
            size: Any = reader.redis.zcard(key)
            return rows, left_out + max(0, int(size) - start)


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
