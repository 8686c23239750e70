"""The job store: the transitions of a job, one script each, and the parts that are about more than one job.

Each script is one round trip, takes the time as an argument, and answers in the words of its header. A web process has
the same store: it reads, and leaves wishes to cancel and the hints of webhooks.

    ids         which endpoint a task id belongs to             shared    jobs that calls with one key share
    outbox      copies of calls that no worker has accepted     cancels   wishes, decisions, what RunPod must hear
    submits     the gate, attempts, who goes next               aside     what no worker can run or read
    pauses      of one operation; holds: of submits, by hand    retries   jobs that failed, and may run again
    workers     heartbeats, and which Redis process is known    open_jobs counts, and their bounds
    purges      when a queue was purged                         health    looks at /health
    watches     which jobs somebody watches                     streams   the chunks that handlers yield
    endpoints   which have something to do, and by when         runpod_queue  what stands in RunPod's queue
"""

from __future__ import annotations

import functools
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from celery import Celery

from celery_runpod._cluster import in_order
from celery_runpod._connect import READ, RedisClient, client_settings, connect, store_url
from celery_runpod._protocol import DAY_S, FORMAT
from celery_runpod._store.cancels import Cancels
from celery_runpod._store.endpoint_index import EndpointIndex
from celery_runpod._store.endpoint_notes import HealthLooks, Purges
from celery_runpod._store.heartbeats import Heartbeats
from celery_runpod._store.id_index import IdIndex
from celery_runpod._store.keys import Keys
from celery_runpod._store.open_jobs import OpenJobs
from celery_runpod._store.outbox import Outbox
from celery_runpod._store.pauses import Holds, Pauses
from celery_runpod._store.places_in_queue import COUNT_EVERY_S, RunPodQueue
from celery_runpod._store.put_aside import Aside
from celery_runpod._store.record import LIGHT, JobRecord, light_hash
from celery_runpod._store.retries import Retries
from celery_runpod._store.scripts import Scripts
from celery_runpod._store.shared_jobs import SharedJobs
from celery_runpod._store.states import AT_RUNPOD, State
from celery_runpod._store.store_part import BATCH, OVERDUE_S, Lives
from celery_runpod._store.streams import Streams
from celery_runpod._store.submits import Submits
from celery_runpod._store.watches import Watches

MOST_CANDIDATES = 5
"""So many RunPod ids may be named for one attempt: whoever has the URL may name a wrong one first."""
CANDIDATES_S = int(DAY_S)
HINT_EVERY_S = 5.0
"""Between two hints that make one job due, in seconds."""
TROUBLES_KEPT_S = int(DAY_S)
SOON_S = 11.0
"""As long as calls that are made now count at RunPod, and a little longer."""


@dataclass(frozen=True)
class CheckTimes:
    """How a check is planned: at most `cap_s` seconds ahead, and, if `whole`, by whole seconds (RabbitMQ)."""

    cap_s: float
    whole: bool = False


@dataclass(frozen=True)
class Entered:
    """`word` is that of ``scripts/accept.lua``; `publish_at`: when a check is to be published (s since 1970), None if
    not now; `notes` are those of cancels, as `cancel_notes` gives them; `reason`: why the job waits with others."""

    word: str
    publish_at: float | None
    notes: dict[str, str]
    reason: str = ""


@dataclass(frozen=True)
class Begun:
    """What a check could do if the budget allows: `looks` that are due, and `submits`. So many looks are `placed`,
    planned by the place in RunPod's queue; so many `decisions` are due within `SOON_S`. `paused_until`: until when looks
    are paused, also when that time is past and none was answered since."""

    looks: int
    submits: int
    placed: int
    decisions: int
    paused_until: float | None


@dataclass(frozen=True)
class Outstanding:
    """What is not done yet: so many `cancels` that RunPod has not confirmed, and the task ids of `undelivered`
    outcomes."""

    cancels: int
    undelivered: list[str]


@dataclass(frozen=True)
class Leased:
    """Task ids that are a check's now: those on which something must be decided, and those to look at, with the number of
    jobs at RunPod before each; the oldest first. `more`: others are due."""

    decided: list[str]
    looks: dict[str, int]
    more: bool


class JobStore:
    """One store a process, shared by its threads. `redis` must decode its responses."""

    def __init__(self, redis: RedisClient, namespace: str, lives: Lives | None = None) -> None:
        self.redis = redis
        self.keys = Keys(namespace)
        self.scripts = Scripts(redis, self.keys)
        self.lives = lives or Lives()
        part = (redis, self.keys, self.scripts, self.lives)
        self.endpoints = EndpointIndex(*part)
        self.ids = IdIndex(*part, self.endpoints)
        self.outbox = Outbox(*part)
        self.pauses = Pauses(*part)
        self.holds = Holds(*part)
        self.workers = Heartbeats(*part)
        self.open_jobs = OpenJobs(*part, self.endpoints)
        self.purges = Purges(*part)
        self.health = HealthLooks(*part)
        self.runpod_queue = RunPodQueue(*part)
        self.retries = Retries(*part)
        self.shared = SharedJobs(*part)
        self.cancels = Cancels(*part, self.ids)
        self.submits = Submits(*part, self.cancels, self.workers)
        self.aside = Aside(*part, self.workers, self.endpoints)
        self.watches = Watches(*part)
        self.streams = Streams(*part)

    # A job's way in

    def accept(self, job: JobRecord, due: float) -> str:
        """ "accepted", or the state of the record that was there before."""
        return str(self._accept(job, due, 0.0, None)[0])

    def enter(
        self,
        job: JobRecord,
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
        wanted, places = list(dict.fromkeys(noted)), list[int]()

        def build(pipe: Any) -> None:
            # In this order. The indexes come first, so that a cancel finds the record; the notes last, so that none is
            # missed which came before a cancel could find it. The endpoint is indexed after its record, because an idle
            # one leaves the index (`OpenJobs.forget`).
            self.ids.put_index(pipe, job, followers, above)
            in_order(pipe)
            places.append(len(pipe))
            self._accept(job, due, now, times, on=pipe)
            in_order(pipe)
            self.ids.put_endpoint(pipe, job)
            self.outbox.put_accepted(pipe, job.task_id, now)
            pipe.mget([self.keys.cancel_note(any_id) for any_id in wanted])

        answers = self.scripts.together(build)
        accepted, notes = answers[places[-1]], answers[-1]
        found = self.cancels.settled_notes(dict(zip(wanted, notes, strict=True)))
        return Entered(str(accepted[0]), float(accepted[1]) if accepted[1] else None, found, str(accepted[2]))

    def _accept(self, job: JobRecord, due: float, now: float, times: CheckTimes | None, on: Any = None) -> Any:
        return self.scripts.run(
            "accept",
            job=job,
            due_at=due,
            turn=job.turn if job.state is State.WAITING and job.not_before <= now else None,
            decide_at=min(job.end_by, job.start_by or math.inf, job.expires_at or math.inf),
            now=now,
            cap=times and times.cap_s,
            whole=times and times.whole,
            overdue=OVERDUE_S,
            fields=[part for pair in job.to_fields().items() for part in pair],
            on=on,
        )

    def is_accepted(self, endpoint: str, task_id: str) -> bool:
        """Whether a call has its record there, or its tombstone."""
        return bool(self.redis.exists(self.keys.job(endpoint, task_id)))

    def hint(self, endpoint: str, task_id: str, attempt: int, now: float, job_id: str = "") -> str:
        """A signed webhook says that an attempt has ended; `job_id` is the id that its body names, if it was read.
        Answers in the words of `scripts/hint.lua`."""
        return self.scripts.word(
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

    # Attempts that failed

    def retry_later(
        self, job: JobRecord, verdict: State, retries: int, due: float, start_by: float | None, job_id: str
    ) -> str:
        return self.scripts.word(
            "retry_later",
            job=job,
            verdict=verdict,
            retries=retries,
            due_at=due,
            start_by=start_by,
            given_id=job_id,
        )

    # Checking

    def begin_check(
        self,
        endpoint: str,
        token: str,
        now: float,
        alive_until: float,
        batch: int,
        max_checks: int,
        max_in_flight: int | None = None,
    ) -> Begun | None:
        """A check begins; None when enough checks are live. It counts as live until then, or until `keep_place`."""
        answer = self.scripts.run(
            "begin_check",
            endpoint=endpoint,
            token=token,
            now=now,
            alive_until=alive_until,
            batch=batch,
            max_checks=max_checks,
            max_in_flight=max_in_flight,
            soon=now + SOON_S,
        )
        if answer[0] == "busy":
            return None
        looks, submits, placed, decisions = map(int, answer[1:5])
        return Begun(looks, submits, placed, decisions, float(answer[5]) if answer[5] else None)

    def keep_place(self, endpoint: str, token: str, alive_until: float) -> None:
        """A check still works."""
        self.redis.zadd(self.keys.checks(endpoint), {token: alive_until}, xx=True)

    def lease_due(
        self,
        endpoint: str,
        now: float,
        lease_until: float,
        batch: int,
        *,
        looks: int = 0,
        submits: int = 0,
        max_in_flight: int | None = None,
        placed: bool = True,
    ) -> Leased:
        """Take what is due: at most `batch` jobs on which something must be decided, so many looks, and so many of the
        jobs that wait to be submitted. `placed`: some looks were planned by places in RunPod's queue."""
        more, decided, *ids = self.scripts.run(
            "lease_due",
            endpoint=endpoint,
            now=now,
            lease_until=lease_until,
            batch=batch,
            looks=looks,
            submits=submits,
            max_in_flight=max_in_flight,
            placed=placed,
        )
        looked = ids[int(decided) :]
        return Leased(ids[: int(decided)], dict(zip(looked[::2], map(int, looked[1::2]), strict=True)), more == "1")

    def end_check(
        self,
        endpoint: str,
        token: str,
        now: float,
        times: CheckTimes,
        *,
        looks_from: float = 0.0,
        submits_from: float = 0.0,
        max_in_flight: int | None = None,
    ) -> float | None:
        """A check is over. When the next one is to be published; None if nothing is due, or one comes early enough.
        `looks_from`, `submits_from`: before these times the budget has no more of them."""
        answer = self.scripts.run(
            "end_check",
            endpoint=endpoint,
            token=token,
            now=now,
            looks_from=looks_from,
            submits_from=submits_from,
            max_in_flight=max_in_flight,
            cap=times.cap_s,
            whole=times.whole,
            overdue=OVERDUE_S,
            count_every=COUNT_EVERY_S,
        )
        return self._planned(endpoint, answer)

    def jobs(self, endpoint: str, task_ids: Iterable[str], light: Iterable[str] = ()) -> list[JobRecord]:
        """The open records among these ids; those of `light` without what may be megabytes: input, continuation,
        progress. Of these only jobs that are at RunPod: one that moved on since may have to be submitted, with its input.
        A record of a newer format is left out: another version works on it. One that cannot be read is left out and put
        aside."""
        whole, rest = list(task_ids), dict.fromkeys(light)
        with self.redis.pipeline(transaction=False) as pipe:
            for task_id in whole:
                pipe.hgetall(self.keys.job(endpoint, task_id))
            for task_id in rest:
                pipe.hmget(self.keys.job(endpoint, task_id), list(LIGHT))
            found: list[Any] = pipe.execute()
        raws = found[: len(whole)] + [light_hash(values) for values in found[len(whole) :]]
        jobs = [
            self.aside.read_or_put_aside(endpoint, task_id, raw)
            for task_id, raw in zip([*whole, *rest], raws, strict=True)
            if raw
        ]
        return [job for job in jobs if job is not None and (job.state in AT_RUNPOD or job.task_id not in rest)]

    def forget_due(self, endpoint: str, task_id: str) -> str:
        return self.scripts.word("forget_due", endpoint=endpoint, task_id=task_id)

    def observe(
        self,
        job: JobRecord,
        lease: float,
        at: float,
        *,
        decide_at: float | None = None,
        state: State | None = None,
        checks: int | None = None,
        progress: str = "",
        reason: str = "",
        missing_since: float | None = None,
        started_at: float | None = None,
        placed: bool = False,
    ) -> str:
        """What a look has shown, and when to work on the job again. Of a job at RunPod `at` is the next look, and at
        `decide_at` something must be decided on it whatever the budget is (`at`, if that is not given). `placed`: if it
        is in RunPod's queue, the look was planned by its place there."""
        return self.scripts.word(
            "observe",
            job=job,
            lease=lease,
            new_state=state,
            at=at,
            decide_at=at if decide_at is None else decide_at,
            checks=job.checks if checks is None else checks,
            progress=progress,
            reason=reason,
            missing_since=missing_since,
            started_at=started_at,
            placed=placed,
        )

    def put_off(
        self, job: JobRecord, lease: float, at: float, *, decide_at: float | None = None, failures: int | None = None
    ) -> str:
        """Give an open job back without news of it; the times as in `observe`."""
        return self.scripts.word(
            "put_off",
            job=job,
            lease=lease,
            at=at,
            decide_at=at if decide_at is None else decide_at,
            failures=job.failures if failures is None else failures,
        )

    def least_due(self, endpoint: str) -> float | None:
        """When the next thing of this endpoint is due: a job, a look or a cancel."""
        with self.redis.pipeline(transaction=False) as pipe:
            pipe.zrange(self.keys.due(endpoint), 0, 0, withscores=True)
            pipe.zrange(self.keys.look(endpoint), 0, 0, withscores=True)
            pipe.zrange(self.keys.cancels(endpoint), 0, 0, withscores=True)
            pipe.hget(self.keys.pause(endpoint, "cancel"), "until")
            jobs, looks, cancels, until = pipe.execute()
        scores = [float(first[0][1]) for first in (jobs, looks) if first]
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
        return self._planned(endpoint, answer)

    def _planned(self, endpoint: str, answer: list[str]) -> float | None:
        if answer[0] != "publish":
            return None
        # Not in the script: the index of all endpoints is in another slot of a Redis Cluster.
        self.endpoints.note_check(endpoint, float(answer[1]))
        return float(answer[1])

    # Ending

    def record_outcome(
        self,
        job: JobRecord,
        state: State,
        outcome: Mapping[str, Any],
        now: float,
        deliver_again_at: float,
        *,
        job_id: str = "",
        cancel: bool = False,
        length_s: float | None = None,
        as_read: bool = False,
        decided_at: float | None = None,
        on: Any = None,
    ) -> Any:
        """A verdict on the latest attempt; answers in the words of ``scripts/record_outcome.lua``.

        Args:
            job_id: RunPod's.
            cancel: the job is also cancelled at RunPod.
            length_s: for how many seconds RunPod worked on it.
            as_read: our own verdict, which was decided on `job` as it was read.
            decided_at: our own verdict, which was due at this time (s since 1970).
            on: a pipeline of `Scripts.together`.
        """
        return self.scripts.run(
            "record_outcome",
            job=job,
            verdict=state,
            outcome=json.dumps(outcome),
            now=now,
            deliver_again_at=deliver_again_at,
            given_id=job_id,
            cancel=cancel,
            index_ttl=self.lives.index_s(job, now),
            length=length_s,
            read_state=job.state if as_read else None,
            read_id=job.job_id,
            read_hint=job.hinted_at is not None,
            end_by=job.end_by if decided_at is not None and decided_at >= job.end_by else None,
            on=on,
        )

    def end(
        self, job: JobRecord, state: State, outcome: Mapping[str, Any], now: float, deliver_again_at: float, **more: Any
    ) -> tuple[str, JobRecord]:
        """`record_outcome`, and the job with its continuation, which a look does not read."""
        if job.continuation or job.shares:
            return str(self.record_outcome(job, state, outcome, now, deliver_again_at, **more)), job

        def build(pipe: Any) -> None:
            self.record_outcome(job, state, outcome, now, deliver_again_at, **more, on=pipe)
            pipe.hget(self.keys.job(job.endpoint, job.task_id), "continuation")

        answer, continuation = self.scripts.together(build)
        return str(answer), replace(job, continuation=continuation or "")

    def claim_finish(
        self, endpoint: str, task_id: str, attempt: int, token: str, now: float, lease_until: float
    ) -> tuple[str, int, JobRecord | None]:
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
            self.ids.put_ended(pipe, endpoint, task_id)
            if job_id:
                pipe.expire(self.keys.by_job_id(endpoint, job_id), self.lives.tombstone_s)

        return str(self.scripts.together(build)[0])

    def outstanding(self, endpoint: str, now: float, *, most: int = 500) -> Outstanding:
        """What is to be repeated now, at most so many of each kind; no cancel while cancels are put off."""
        with self.redis.pipeline(transaction=False) as pipe:
            pipe.zcount(self.keys.cancels(endpoint), "-inf", now)
            pipe.hget(self.keys.pause(endpoint, "cancel"), "until")
            pipe.zrangebyscore(self.keys.undelivered(endpoint), "-inf", now, start=0, num=most)
            cancels, until, undelivered = pipe.execute()
        return Outstanding(0 if until and float(until) > now else min(int(cancels), most), list(undelivered))

    def published(self, endpoint: str, task_id: str) -> int:
        """How often a verdict was published again."""
        found: Any = self.redis.hget(self.keys.job(endpoint, task_id), "published")
        return int(found or 0)

    def deliver_at(self, endpoint: str, task_id: str, at: float) -> None:
        """When (s since 1970) a check delivers an outcome that was not delivered yet."""
        self.redis.zadd(self.keys.undelivered(endpoint), {task_id: at}, xx=True)

    def deliver_again(
        self, endpoint: str, task_ids: Sequence[str], now: float, *, base_s: float = 30.0, cap_s: float = 900.0
    ) -> dict[str, str]:
        """Which of these outcomes may be delivered again now, in the words of ``scripts/deliver_again.lua``. The waits
        between grow from `base_s` to `cap_s` seconds."""

        def build(pipe: Any) -> None:
            for task_id in task_ids:
                self.scripts.run(
                    "deliver_again", endpoint=endpoint, task_id=task_id, now=now, base=base_s, cap=cap_s, on=pipe
                )

        return dict(zip(task_ids, map(str, self.scripts.together(build)), strict=True))

    # Looking

    def settle_accepted(self, until: float) -> list[str]:
        """Drop the copies of calls that were accepted before this time. A call whose record is gone was accepted by a
        master of a cluster that has failed: it waits for a worker again. Answers these task ids."""
        calls = self.outbox.accepted_before(until, BATCH)
        held = {
            task_id
            for endpoint, ids in self.cancels.places(calls).items()
            for task_id in self.cancels.states(endpoint, ids)
        }
        lost = [task_id for task_id in calls if task_id not in held]
        if calls:
            self.outbox.settle_accepted(calls, lost)
        return lost

    def ids_in(self, endpoint: str, state: State) -> list[str]:
        """The task ids of the open jobs in a state."""
        return [task_id for task_id, found in self.field_of_open(endpoint, "state") if found == state]

    def field_of_open(self, endpoint: str, name: str) -> Iterator[tuple[str, str | None]]:
        """Task id and one field of each open job."""
        ids = list(self.ids.scanned(self.keys.due(endpoint)))
        for start in range(0, len(ids), BATCH):
            some = ids[start : start + BATCH]
            with self.redis.pipeline(transaction=False) as pipe:
                for task_id in some:
                    pipe.hget(self.keys.job(endpoint, task_id), name)
                yield from zip(some, pipe.execute(), strict=True)

    def look_now(self, endpoint: str, task_ids: list[str], now: float) -> None:
        """Make the next look at these jobs due."""
        for start in range(0, len(task_ids), BATCH):
            some = task_ids[start : start + BATCH]
            known: Any = self.redis.zmscore(self.keys.look(endpoint), some)
            for key, has_look in ((self.keys.look(endpoint), True), (self.keys.due(endpoint), False)):
                ids = [task_id for task_id, at in zip(some, known, strict=True) if (at is not None) is has_look]
                if ids:
                    self.redis.zadd(key, dict.fromkeys(ids, now), xx=True)

    def count_trouble(self, task_id: str) -> int:
        """How often the task of this id has met an error of an unknown kind, this one included."""
        with self.redis.pipeline(transaction=False) as pipe:
            pipe.incr(self.keys.troubles(task_id))
            pipe.expire(self.keys.troubles(task_id), TROUBLES_KEPT_S)
            return int(pipe.execute()[0])


def store_of(app: Celery) -> JobStore:
    """The job store of a process that has this app and no worker's settings."""
    settings = client_settings()
    return _store(store_url(app, settings), settings.namespace, os.getpid())


@functools.lru_cache(maxsize=16)
def _store(url: str, namespace: str, pid: int) -> JobStore:
    return JobStore(connect(url, READ), namespace)
