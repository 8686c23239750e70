"""Which endpoint a task id belongs to, and which ids hang under a root or a group.

An index is written before what it points to, so it may point to nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from celery_runpod._store.endpoint_index import EndpointIndex
from celery_runpod._store.record import JobRecord
from celery_runpod._store.states import State
from celery_runpod._store.store_part import Part

MOST_ENDED = 1000
"""How many ended calls of a namespace are listed; their tombstones live longer."""


@dataclass(frozen=True)
class Place:
    """Where a task id belongs: its endpoint (None: not a job, or not yet) and the root it hangs under."""

    endpoint: str | None
    root: str


@dataclass(eq=False)
class IdIndex(Part):
    """The indexes from task ids, roots and groups."""

    endpoints: EndpointIndex

    def place(self, task_id: str) -> Place | None:
        raw: Any = self.redis.get(self.keys.task(task_id))
        if raw is None:
            return None
        data = json.loads(raw)
        return Place(endpoint=data.get("endpoint"), root=data["root"])

    def is_job(self, any_id: str) -> bool:
        """Whether this is the id of a call that a worker has taken."""
        return self.endpoint_of(any_id) is not None

    def endpoint_of(self, task_id: str) -> str | None:
        """RunPod's id of a job's endpoint; None: not a job, or not yet."""
        place = self.place(task_id)
        return None if place is None else place.endpoint

    def job(self, task_id: str, *, shared: bool = False) -> dict[str, str] | None:
        """A job's record, or its tombstone, as text fields; None where there is none. With `shared`, of a call that waits
        for a job that it shares with others, that job's record."""
        if (endpoint := self.endpoint_of(task_id)) is None:
            return None
        raw: Any = self.redis.hgetall(self.keys.job(endpoint, task_id))
        if shared and raw.get("state") == State.JOINED:
            raw = self.redis.hgetall(self.keys.job(endpoint, raw.get("joined", ""))) or raw
        return dict(raw) or None

    def members(self, any_id: str) -> set[str]:
        """Task ids of the jobs that were accepted under a root or group id."""
        return self.scanned_set(self.keys.root(any_id))

    def count_members(self, any_id: str) -> int:
        """How many jobs `members` would name."""
        found: Any = self.redis.scard(self.keys.root(any_id))
        return int(found)

    def index(self, job: JobRecord, followers: Iterable[str], groups: Iterable[str]) -> None:
        """Write the indexes of a job that is about to be accepted; harmless if it never is."""

        def build(pipe: Any) -> None:
            self.put_endpoint(pipe, job)
            self.put_index(pipe, job, followers, groups)

        self.scripts.together(build)

    def put_endpoint(self, pipe: Any, job: JobRecord) -> None:
        """Index the endpoint of a job, on a pipeline."""
        self.endpoints.put_call(pipe, job.endpoint, job.accepted_at)

    def put_index(self, pipe: Any, job: JobRecord, followers: Iterable[str], groups: Iterable[str]) -> None:
        """Index a job by its ids, on a pipeline of `Scripts.together`."""
        keys, ttl = self.keys, self.lives.tombstone_s + int(max(0.0, job.end_by - job.accepted_at))
        pipe.set(keys.task(job.task_id), json.dumps({"endpoint": job.endpoint, "root": job.root_id}), ex=ttl)
        for follower in followers:
            place = json.dumps({"endpoint": None, "root": job.root_id})
            pipe.set(keys.task(follower), place, ex=ttl, nx=True)
        for above in sorted({job.root_id, *groups}):
            self.scripts.run("join_root", any_id=above, task_id=job.task_id, ttl=ttl, on=pipe)

    def put_ended(self, pipe: Any, endpoint: str, task_id: str) -> None:
        """Note on a pipeline that a call has ended."""
        key = self.keys.ended()
        pipe.lpush(key, f"{endpoint} {task_id}")
        pipe.ltrim(key, 0, MOST_ENDED - 1)
        pipe.expire(key, self.lives.tombstone_s)

    def ended(self) -> list[tuple[str, str]]:
        """Endpoint and task id of the calls that ended last, the newest first, each once."""
        found: Any = self.redis.lrange(self.keys.ended(), 0, -1)
        pairs = (one.partition(" ") for one in dict.fromkeys(found))
        return [(endpoint, task_id) for endpoint, _, task_id in pairs]
