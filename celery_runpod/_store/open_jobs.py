"""How many jobs are open, and how much their inputs hold: counted by the leading worker, read by callers.

Not here: what a caller refuses for it (`celery_runpod/_publish/bounds.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

from celery_runpod._store.part import Part


@dataclass(frozen=True)
class Count:
    """Open jobs of an endpoint, and bytes of their inputs. `idle`: nothing is left to do for it, no cancel either."""

    jobs: int
    input_bytes: int
    idle: bool


@dataclass(frozen=True)
class Totals:
    """Open jobs and bytes of input of a namespace, and how much of each the workers allow."""

    jobs: int
    input_bytes: int
    most_jobs: int
    most_input_bytes: int


class OpenJobs(Part):
    """The counts of a namespace."""

    def count(self, endpoint: str) -> Count:
        """What the records of an endpoint are, and hold."""
        jobs, input_bytes, idle = self.scripts.run("count", endpoint=endpoint)
        return Count(int(jobs), int(input_bytes), idle == "1")

    def forget(self, endpoint: str) -> None:
        """Take an idle endpoint out of the index; its next call puts it back."""
        self.redis.srem(self.keys.endpoints(), endpoint)
        if not self.count(endpoint).idle:
            # A call was accepted in between.
            self.redis.sadd(self.keys.endpoints(), endpoint)

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
