"""How many jobs are open, and how much their inputs hold: counted by the leading worker, read by callers.

Not here: what a caller refuses for it (`celery_runpod/_publish/open_job_bounds.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from celery_runpod._store.endpoint_index import EndpointIndex
from celery_runpod._store.store_part import Part


@dataclass(frozen=True)
class Count:
    """Open jobs of an endpoint, bytes of their inputs, and records that were put `aside`. `idle`: nothing is left to do
    for it, no cancel either."""

    jobs: int
    input_bytes: int
    aside: int
    idle: bool


@dataclass(frozen=True)
class Totals:
    """Open jobs and bytes of input of a namespace, and how much of each the workers allow."""

    jobs: int
    input_bytes: int
    most_jobs: int
    most_input_bytes: int


@dataclass(eq=False)
class OpenJobs(Part):
    """The counts of a namespace."""

    endpoints: EndpointIndex

    def count(self, endpoints: Iterable[str]) -> dict[str, Count]:
        """What the records of these endpoints are, and hold, in one round trip."""
        ids = list(endpoints)

        def build(pipe: Any) -> None:
            for endpoint in ids:
                self.scripts.run("count", endpoint=endpoint, on=pipe)

        answers = self.scripts.together(build) if ids else []
        return {
            endpoint: Count(int(jobs), int(input_bytes), int(aside), idle == "1")
            for endpoint, (jobs, input_bytes, aside, idle) in zip(ids, answers, strict=True)
        }

    def forget(self, endpoint: str, now: float) -> None:
        """Take an idle endpoint out of the index; its next call puts it back."""
        self.endpoints.forget(endpoint)
        if not self.count([endpoint])[endpoint].idle:
            # A call was accepted in between.
            self.endpoints.note_due(endpoint, now)

    def note_totals(self, jobs: int, input_bytes: int, most_jobs: int, most_input_bytes: int) -> None:
        """What all endpoints hold together, for callers to read."""
        counts = {
            "jobs": jobs,
            "input_bytes": input_bytes,
            "most_jobs": most_jobs,
            "most_input_bytes": most_input_bytes,
        }
        self.redis.hset(self.keys.totals(), mapping=counts)

    def totals(self) -> Totals | None:
        """What the namespace holds, calls that no worker has accepted yet among the jobs, and what it may hold; None
        where no worker has counted yet."""
        with self.redis.pipeline(transaction=False) as pipe:
            pipe.hmget(self.keys.totals(), ["jobs", "input_bytes", "most_jobs", "most_input_bytes"])
            pipe.zcard(self.keys.outbox())
            counted, waiting = pipe.execute()
        if None in counted:
            return None
        jobs, input_bytes, most_jobs, most_input_bytes = map(int, counted)
        return Totals(jobs + int(waiting), input_bytes, most_jobs, most_input_bytes)
