"""The job store: the transitions of a job, one script each, and the parts that are about more than one job.

Each script is one round trip, takes the time as an argument, and answers in the words of its header. A web process has
the same store: it reads, and leaves wishes to cancel and the hints of webhooks.

    ids         which endpoint a task id belongs to             shared    jobs that calls with one key share
    outbox      copies of calls that no worker has accepted     cancels   wishes, decisions, what RunPod must hear
    submits     the gate, attempts, who goes next               aside     what no worker can run or read
    pauses      of one operation; brake: of submits, by hand    retries   jobs that failed, and may run again
    workers     heartbeats, and which Redis process is known    open_jobs counts, and their bounds
    purges      when a queue was purged                         health    looks at /health
    watches     which jobs somebody watches
"""

from __future__ import annotations

import functools
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from celery import Celery
from redis import Redis

from celery_runpod._connect import READ, client_settings, connect, store_url
from celery_runpod._protocol import DAY_S, FORMAT
from celery_runpod._store.cancels import Cancels
from celery_runpod._store.endpoint_notes import HealthLooks, Purges
from celery_runpod._store.heartbeats import Heartbeats
from celery_runpod._store.ids import Ids
from celery_runpod._store.kept_calls import KeptCalls
from celery_runpod._store.keys import Keys
from celery_runpod._store.open_jobs import OpenJobs
from celery_runpod._store.part import Lives
from celery_runpod._store.pauses import Brake, Pauses
from celery_runpod._store.put_aside import Aside
from celery_runpod._store.record import Job
from celery_runpod._store.retries import Retries
from celery_runpod._store.scripts import Scripts
from celery_runpod._store.shared import SharedJobs
from celery_runpod._store.states import State
from celery_runpod._store.submits import Submits
from celery_runpod._store.watches import Watches

MOST_CANDIDATES = 5
"""So many RunPod ids may be named for one attempt: whoever has the URL may name a wrong one first."""
CANDIDATES_S = int(DAY_S)
HINT_EVERY_S = 5.0
"""Between two hints that make one job due, in seconds."""
TROUBLES_KEPT_S = int(DAY_S)
BATCH = 1000
OVERDUE_S = 3.0
"""A planned check counts for nothing so long after its time: its message was lost."""


@dataclass(frozen=True)
class CheckTimes:
    """How a check is planned: at most `cap_s` seconds ahead, and, if `whole`, by whole seconds (RabbitMQ)."""

    cap_s: float
    whole: bool = False


@dataclass(frozen=True)
class Entered:
    """`word` is that of ``scripts/accept.lua``; `publish_at`: when a check is to be published (s since 1970), None if
    not now; `notes` are those of cancels, as `cancel_notes` gives them."""

    word: str
    publish_at: float | None
    notes: dict[str, str]


class JobStore:
    """One store a process, shared by its threads. `redis` must decode its responses."""

    def __init__(self, redis: Redis, namespace: str, lives: Lives | None = None) -> None:
        self.redis = redis
        self.keys = Keys(namespace)
        self.scripts = Scripts(redis, self.keys)
        self.lives = lives or Lives()
        part = (redis, self.keys, self.scripts, self.lives)
        self.ids = Ids(*part)
        self.outbox = KeptCalls(*part)
        self.pauses = Pauses(*part)
        self.brake = Brake(*part)
        self.workers = Heartbeats(*part)
        self.open_jobs = OpenJobs(*part)
        self.purges = Purges(*part)
        self.health = HealthLooks(*part)
        self.retries = Retries(*part)
        self.shared = SharedJobs(*part)
        self.cancels = Cancels(*part, self.ids)
        self.submits = Submits(*part, self.cancels)
        self.aside = Aside(*part, self.workers)
        self.watches = Watches(*part)

    # A job's way in

    def accept(self, job: Job, due: float) -> str:
        """ "accepted", or the state of the record that was there before."""
        return str(self._accept(job, due, 0.0, None)[0])

    def enter(
        self,
        job: Job,
        due: float,
        now: float,
        times: CheckTimes,
        *,
        followers: Sequence[str],
        above: Sequence[str],
        noted: Sequence[str],
    ) -> Entered:
        """Accept a call in one round trip: its indexes, its record, the end of its copy in the outbox, the notes of
        cancels under `noted`, and when a check is to be published. Repeating it changes nothing."""
        wanted = list(dict.fromkeys(noted))

        def build(pipe: Any) -> None:
            # In this order. The indexes come first, so that a cancel finds the record; the notes last, so that none is
            # missed which came before a cancel could find it.
            self.ids.put_index(pipe, job, followers, above)
            self._accept(job, due, now, times, on=pipe)
            self.outbox.put_drop(pipe, job.task_id)
            pipe.mget([self.keys.cancel_note(any_id) for any_id in wanted])

        *_, accepted, _, _, _, _, notes = self.scripts.together(build)
        found = self.cancels.settled_notes(dict(zip(wanted, notes, strict=True)))
        return Entered(str(accepted[0]), float(accepted[1]) if accepted[1] else None, found)

    def _accept(self, job: Job, due: float, now: float, times: CheckTimes | None, on: Any = None) -> Any:
        return self.scripts.run(
            "accept",
            endpoint=job.endpoint,
            task_id=job.task_id,
            due_at=due,
            now=now,
            cap=times and times.cap_s,
            whole=times and times.whole,
            overdue=OVERDUE_S,
            fields=[part for pair in job.to_fields().items() for part in pair],
            on=on,
        )

    def hint(self, endpoint: str, task_id: str, attempt: int, now: float, job_id: str = "") -> str:
        """A signed webhook says that an attempt has ended; `job_id` is the id that its body names, if it was read.
        Answers in the words of `scripts/hint.lua`."""
        word = self.scripts.run(
            "hint",
            endpoint=endpoint,
            task_id=task_id,
            attempt=attempt,
            now=now,
            named_id=job_id,
            format=FORMAT,
            most_candidates=MOST_CANDIDATES,
            candidates_ttl=CANDIDATES_S,
            every=HINT_EVERY_S,
            overdue=OVERDUE_S,
        )
        return str(word)

    # Attempts that failed

    def retry_later(
        self, job: Job, verdict: State, retries: int, due: float, start_by: float | None, job_id: str
    ) -> str:
        word = self.scripts.run(
            "retry_later",
            endpoint=job.endpoint,
            task_id=job.task_id,
            attempt=job.attempt,
            verdict=verdict,
            retries=retries,
            due_at=due,
            start_by=start_by,
            given_id=job_id,
        )
        return str(word)

    # Checking

    def lease_due(
        self, endpoint: str, token: str, now: float, lease_until: float, batch: int, max_checks: int
    ) -> tuple[list[str], bool] | None:
        """The task ids that are now this check's, and whether more is due; None when enough checks are live."""
        answer = self.scripts.run(
            "lease_due",
            endpoint=endpoint,
            token=token,
            now=now,
            lease_until=lease_until,
            batch=batch,
            max_checks=max_checks,
        )
        return None if answer[0] == "busy" else (answer[2:], answer[1] == "1")

    def end_check(self, endpoint: str, token: str, now: float, times: CheckTimes) -> float | None:
        """A check is over. When the next one is to be published; None if nothing is due, or one comes early enough."""
        answer = self.scripts.run(
            "end_check",
            endpoint=endpoint,
            token=token,
            now=now,
            cap=times.cap_s,
            whole=times.whole,
            overdue=OVERDUE_S,
        )
        return float(answer[1]) if answer[0] == "publish" else None

    def jobs(self, endpoint: str, task_ids: Iterable[str]) -> list[Job]:
        """The open records among these ids. One of a newer format is left out: another version works on it. One that
        cannot be read is left out and put aside."""
        ids = list(task_ids)
        with self.redis.pipeline(transaction=False) as pipe:
            for task_id in ids:
                pipe.hgetall(self.keys.job(endpoint, task_id))
            found = pipe.execute()
        jobs = [
            self.aside.read_or_put_aside(endpoint, task_id, raw) for task_id, raw in zip(ids, found, strict=True) if raw
        ]
        return [job for job in jobs if job is not None]

    def forget_due(self, endpoint: str, task_id: str) -> str:
        return str(self.scripts.run("forget_due", endpoint=endpoint, task_id=task_id))

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
        word = self.scripts.run(
            "observe",
            endpoint=job.endpoint,
            task_id=job.task_id,
            attempt=job.attempt,
            lease=lease,
            new_state=state,
            due_at=due,
            checks=job.checks if checks is None else checks,
            progress=progress,
            reason=reason,
            now=now,
            missing_since=missing_since,
        )
        return str(word)

    def put_off(
        self, job: Job, lease: float, due: float, *, failures: int | None = None, waits_since: float | None = None
    ) -> str:
        word = self.scripts.run(
            "put_off",
            endpoint=job.endpoint,
            task_id=job.task_id,
            attempt=job.attempt,
            lease=lease,
            due_at=due,
            failures=job.failures if failures is None else failures,
            waits_since=waits_since,
        )
        return str(word)

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

    def plan_check(self, endpoint: str, at: float, now: float, times: CheckTimes) -> float | None:
        """When a check is to be published, so that one comes at this time; None if one comes early enough."""
        answer = self.scripts.run(
            "plan_check",
            endpoint=endpoint,
            at=at,
            now=now,
            cap=times.cap_s,
            whole=times.whole,
            overdue=OVERDUE_S,
        )
        return float(answer[1]) if answer[0] == "publish" else None

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
        answer = self.scripts.run(
            "record_outcome",
            endpoint=job.endpoint,
            task_id=job.task_id,
            attempt=job.attempt,
            verdict=state,
            outcome=json.dumps(outcome),
            now=now,
            deliver_again_at=deliver_again_at,
            given_id=job_id,
            cancel=cancel,
            api_key_name=job.api_key_name,
            index_ttl=self.lives.index_s(job, now),
        )
        return str(answer)

    def claim_finish(
        self, endpoint: str, task_id: str, attempt: int, token: str, now: float, lease_until: float
    ) -> tuple[str, int, Job | None]:
        """("yours" | "held" | "delivered" | "refused" | "unknown", how often it was claimed, its record); no record where
        it cannot be read."""
        answer = self.scripts.run(
            "claim_finish",
            endpoint=endpoint,
            task_id=task_id,
            attempt=attempt,
            token=token,
            now=now,
            lease_until=lease_until,
        )
        if answer[0] != "yours":
            return str(answer[0]), 0, None
        raw = dict(zip(answer[2::2], answer[3::2], strict=True))
        return "yours", int(answer[1]), self.aside.read_or_put_aside(endpoint, task_id, raw)

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

        def build(pipe: Any) -> None:
            self.scripts.run(
                "mark_delivered",
                endpoint=endpoint,
                task_id=task_id,
                now=now,
                tombstone_ttl=self.lives.tombstone_s,
                format=FORMAT,
                keep_failed=math.ceil(keep_failed_s),
                more=[part for pair in (kept or {}).items() for part in pair],
                on=pipe,
            )
            for any_id in above:
                pipe.srem(self.keys.root(any_id), task_id)
            pipe.expire(self.keys.task(task_id), self.lives.tombstone_s)
            if job_id:
                pipe.expire(self.keys.by_job_id(endpoint, job_id), self.lives.tombstone_s)

        return str(self.scripts.together(build)[0])

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
        word = self.scripts.run("republish", endpoint=endpoint, task_id=task_id, now=now, base=base_s, cap=cap_s)
        return str(word)

    # Looking

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
        place = self.ids.place(task_id)
        if place is None or place.endpoint is None:
            return None
        found = self.jobs(place.endpoint, [task_id])
        return found[0] if found else None

    def watched(self, endpoint: str, ids: Iterable[str]) -> set[str]:
        """Those of these jobs that somebody watches just now, in one round trip."""
        return self.watches.among(endpoint, ids)

    def ids_in(self, endpoint: str, state: State) -> list[str]:
        """The task ids of the open jobs in a state."""
        return [task_id for task_id, found in self._states(endpoint) if found == state]

    def _states(self, endpoint: str) -> Iterator[tuple[str, str | None]]:
        ids: Any = self.redis.zrange(self.keys.due(endpoint), 0, -1)
        for start in range(0, len(ids), BATCH):
            some = ids[start : start + BATCH]
            with self.redis.pipeline(transaction=False) as pipe:
                for task_id in some:
                    pipe.hget(self.keys.job(endpoint, task_id), "state")
                yield from zip(some, pipe.execute(), strict=True)

    def look_now(self, endpoint: str, task_ids: list[str], now: float) -> None:
        """Make these open jobs due."""
        for start in range(0, len(task_ids), BATCH):
            scores = dict.fromkeys(task_ids[start : start + BATCH], now)
            self.redis.zadd(self.keys.due(endpoint), scores, xx=True)

    def count_trouble(self, task_id: str) -> int:
        """How often the task of this id has met an error of an unknown kind, this one included."""
        with self.redis.pipeline(transaction=False) as pipe:
            pipe.incr(self.keys.troubles(task_id))
            pipe.expire(self.keys.troubles(task_id), TROUBLES_KEPT_S)
            return int(pipe.execute()[0])


def store_of(app: Celery) -> JobStore:
    """The job store of a process that has this app and no worker's settings."""
    return _store(store_url(app), client_settings().namespace, os.getpid())


@functools.lru_cache(maxsize=16)
def _store(url: str, namespace: str, pid: int) -> JobStore:
    return JobStore(connect(url, READ), namespace)
