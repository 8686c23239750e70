"""The job store: one method for each script in ``scripts/``, and the reads that go with them.

Each script is one round trip, takes the time as an argument, and answers in the words of its script. Indexes are
written before what they point to, so they may point to nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from celery_runpod._protocol import FORMAT
from celery_runpod._store.aside import Aside
from celery_runpod._store.cancels import Cancels
from celery_runpod._store.operated import Operated
from celery_runpod._store.reader import Place
from celery_runpod._store.record import Job
from celery_runpod._store.shared import SharedJobs
from celery_runpod._store.states import State
from celery_runpod._store.submits import Submits


class JobStore(Submits, SharedJobs, Operated, Cancels, Aside):
    """All transitions of a job. `redis` must decode its responses; one store a process, shared by its threads."""

    # A job's way in

    def index(self, job: Job, followers: Iterable[str], groups: Iterable[str]) -> None:
        """Write the indexes of a job that is about to be accepted; harmless if it never is."""
        keys, ttl = self.keys, self.tombstone_ttl_s + int(max(0.0, job.end_by - job.accepted_at))
        roots = sorted({job.root_id, *groups})
        with self.redis.pipeline(transaction=False) as pipe:
            for above in roots:
                pipe.ttl(keys.root(above))
            lives: list[int] = pipe.execute()
        with self.redis.pipeline(transaction=False) as pipe:
            pipe.sadd(keys.endpoints(), job.endpoint)
            pipe.set(keys.task(job.task_id), json.dumps({"endpoint": job.endpoint, "root": job.root_id}), ex=ttl)
            for follower in followers:
                place = json.dumps({"endpoint": None, "root": job.root_id})
                pipe.set(keys.task(follower), place, ex=ttl, nx=True)
            for above, life in zip(roots, lives, strict=True):
                pipe.sadd(keys.root(above), job.task_id)
                # A longer job under the same root must be reached for as long as it lives.
                pipe.expire(keys.root(above), max(ttl, life))
            pipe.execute()

    def accept(self, job: Job, due: float) -> str:
        """ "accepted", or the state of the record that was there before."""
        keys = [
            self.keys.job(job.endpoint, job.task_id),
            self.keys.due(job.endpoint),
            self.keys.undelivered(job.endpoint),
            self.keys.input_bytes(job.endpoint),
        ]
        flat = [part for pair in job.to_fields().items() for part in pair]
        return str(self._run("accept", keys, job.task_id, due, *flat))

    # Attempts that failed

    def retry_later(
        self, job: Job, verdict: State, retries: int, due: float, start_by: float | None, job_id: str
    ) -> str:
        keys = [
            self.keys.job(job.endpoint, job.task_id),
            self.keys.due(job.endpoint),
            self.keys.inflight(job.endpoint),
        ]
        by = "" if start_by is None else start_by
        return str(self._run("retry_later", keys, job.task_id, job.attempt, verdict, retries, due, by, job_id))

    # Checking

    def lease_due(
        self, endpoint: str, token: str, now: float, lease_until: float, batch: int, max_checks: int
    ) -> tuple[list[str], bool] | None:
        """The task ids that are now this check's, and whether more is due; None when enough checks are live."""
        keys = [self.keys.due(endpoint), self.keys.checks(endpoint), self.keys.next_check_at(endpoint)]
        answer = self._run("lease_due", keys, token, now, lease_until, batch, max_checks)
        return None if answer[0] == "busy" else (answer[2:], answer[1] == "1")

    def end_check(self, endpoint: str, token: str) -> None:
        self.redis.zrem(self.keys.checks(endpoint), token)

    def jobs(self, endpoint: str, task_ids: Iterable[str]) -> list[Job]:
        """The open records among these ids. One of a newer format is left out: another version works on it. One that
        cannot be read is left out and put aside (``aside.py``)."""
        ids = list(task_ids)
        with self.redis.pipeline(transaction=False) as pipe:
            for task_id in ids:
                pipe.hgetall(self.keys.job(endpoint, task_id))
            found = pipe.execute()
        jobs = [self.read_or_put_aside(endpoint, task_id, raw) for task_id, raw in zip(ids, found, strict=True) if raw]
        return [job for job in jobs if job is not None]

    def forget_due(self, endpoint: str, task_id: str) -> str:
        keys = [
            self.keys.job(endpoint, task_id),
            self.keys.due(endpoint),
            self.keys.inflight(endpoint),
            self.keys.waiting(endpoint),
        ]
        return str(self._run("forget_due", keys, task_id))

    def observe(
        self,
        job: Job,
        lease: float,
        due: float,
        now: float,
        *,
        state: State | None = None,
        checks: int | None = None,
        progress: str = "",
        reason: str = "",
        missing_since: float | None = None,
    ) -> str:
        keys = [self.keys.job(job.endpoint, job.task_id), self.keys.due(job.endpoint)]
        count, missing = job.checks if checks is None else checks, "" if missing_since is None else missing_since
        args = (job.task_id, job.attempt, lease, state or "", due, count, progress, reason, now, missing)
        return str(self._run("observe", keys, *args))

    def put_off(
        self, job: Job, lease: float, due: float, *, failures: int | None = None, waits_since: float | None = None
    ) -> str:
        keys = [self.keys.job(job.endpoint, job.task_id), self.keys.due(job.endpoint)]
        count, since = job.failures if failures is None else failures, "" if waits_since is None else waits_since
        return str(self._run("put_off", keys, job.task_id, job.attempt, lease, due, count, since))

    def least_due(self, endpoint: str) -> float | None:
        """When the next thing of this endpoint is to be looked at: a job or a cancel."""
        with self.redis.pipeline(transaction=False) as pipe:
            pipe.zrange(self.keys.due(endpoint), 0, 0, withscores=True)
            pipe.zrange(self.keys.cancels(endpoint), 0, 0, withscores=True)
            pipe.hget(self.keys.pause(endpoint, "cancel"), "until")
            jobs, cancels, until = pipe.execute()
        scores = [float(jobs[0][1])] if jobs else []
        if cancels:
            scores.append(max(float(cancels[0][1]), float(until or 0.0)))
        return min(scores) if scores else None

    def plan_check(self, endpoint: str, at: float, now: float, *, slack_s: float = 0.5, overdue_s: float = 3.0) -> bool:
        """Whether the caller must publish a check for this time."""
        answer = self._run("plan_check", [self.keys.next_check_at(endpoint)], at, now, slack_s, overdue_s)
        return bool(answer == "publish")

    # Ending

    def record_outcome(
        self,
        job: Job,
        state: State,
        outcome: Mapping[str, Any],
        now: float,
        deliver_again_at: float,
        *,
        job_id: str = "",
        cancel: bool = False,
    ) -> str:
        answer = self._run(
            "record_outcome",
            [*self._ending_keys(job.endpoint, job.task_id), self.keys.by_job_id(job.endpoint, job_id)],
            job.task_id,
            job.attempt,
            state,
            json.dumps(outcome),
            now,
            deliver_again_at,
            job_id,
            "1" if cancel else "0",
            job.api_key_name or "",
            self._index_ttl_s(job, now),
        )
        return str(answer)

    def claim_finish(
        self, endpoint: str, task_id: str, attempt: int, token: str, now: float, lease_until: float
    ) -> tuple[str, int]:
        """("yours" | "held" | "delivered" | "refused" | "unknown", how often it was claimed)."""
        keys = [self.keys.job(endpoint, task_id), self.keys.undelivered(endpoint)]
        answer = self._run("claim_finish", keys, task_id, attempt, token, now, lease_until)
        return answer[0], int(answer[1]) if len(answer) > 1 else 0

    def mark_delivered(
        self,
        endpoint: str,
        task_id: str,
        above: Iterable[str],
        now: float,
        kept: Mapping[str, str] | None = None,
        keep_failed_s: float = 0.0,
        job_id: str | None = None,
    ) -> str:
        """Leave a tombstone with `kept`, and leave the indexes of the roots and groups `above`. What failed can be run
        again for `keep_failed_s` seconds. `job_id` is RunPod's, whose index then lives as long as the tombstone."""
        keys = [
            self.keys.job(endpoint, task_id),
            self.keys.undelivered(endpoint),
            self.keys.due(endpoint),
            self.keys.failed(endpoint, task_id),
            self.keys.input_bytes(endpoint),
        ]
        flat = [part for pair in (kept or {}).items() for part in pair]
        ttl_s, keep_s = self.tombstone_ttl_s, math.ceil(keep_failed_s)
        answer = str(self._run("mark_delivered", keys, task_id, now, ttl_s, FORMAT, keep_s, *flat))
        with self.redis.pipeline(transaction=False) as pipe:
            for any_id in above:
                pipe.srem(self.keys.root(any_id), task_id)
            pipe.expire(self.keys.task(task_id), self.tombstone_ttl_s)
            if job_id:
                pipe.expire(self.keys.by_job_id(endpoint, job_id), self.tombstone_ttl_s)
            pipe.execute()
        return answer

    def undelivered(self, endpoint: str, now: float, limit: int = 500) -> list[str]:
        ids: Any = self.redis.zrangebyscore(self.keys.undelivered(endpoint), "-inf", now, start=0, num=limit)
        return list(ids)

    def published(self, endpoint: str, task_id: str) -> int:
        """How often a verdict was published again."""
        found: Any = self.redis.hget(self.keys.job(endpoint, task_id), "published")
        return int(found or 0)

    def deliver_at(self, endpoint: str, task_id: str, at: float) -> None:
        """When a verdict that was not delivered is published again."""
        self.redis.zadd(self.keys.undelivered(endpoint), {task_id: at}, xx=True)

    def republish(self, endpoint: str, task_id: str, now: float, *, base_s: float = 30.0, cap_s: float = 900.0) -> str:
        keys = [self.keys.job(endpoint, task_id), self.keys.undelivered(endpoint)]
        return str(self._run("republish", keys, task_id, now, base_s, cap_s))

    # Looking

    def endpoints(self) -> list[str]:
        found: Any = self.redis.smembers(self.keys.endpoints())
        return sorted(found)

    def overdue(self, endpoint: str, now: float, by_s: float) -> bool:
        """Whether anything of this endpoint should have been looked at `by_s` seconds ago."""
        late = now - by_s
        with self.redis.pipeline(transaction=False) as pipe:
            pipe.zcount(self.keys.due(endpoint), "-inf", late)
            pipe.zcount(self.keys.cancels(endpoint), "-inf", late)
            pipe.zcount(self.keys.undelivered(endpoint), "-inf", late)
            pipe.hget(self.keys.pause(endpoint, "cancel"), "until")
            due, cancels, undelivered, until = pipe.execute()
        return bool(due or undelivered or (cancels and float(until or 0.0) <= late))

    def find(self, task_id: str) -> Job | None:
        """The open record of a task id."""
        place: Place | None = self.place(task_id)
        if place is None or place.endpoint is None:
            return None
        found = self.jobs(place.endpoint, [task_id])
        return found[0] if found else None
