"""What the store does for a submit: what forbids it, the claim of one attempt, the end of its POST, who goes next.

All POSTs of new jobs of an endpoint go through one gate (``gate.lua``, docs/decisions/0014): after trouble one job tries
first, and while a POST under way is late none begins. What the gate holds back waits for its turn, with
what waits for a place of `max_in_flight`, and is not looked at until it may go.

Not here: what an answer of RunPod's means (`tasks/submit.py`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from redis.exceptions import MovedError, RedisError, ResponseError

from celery_runpod._cluster import ClusterRedis, ask_which_server
from celery_runpod._protocol import EVERY_ENDPOINT
from celery_runpod._store.cancels import Cancels
from celery_runpod._store.heartbeats import Heartbeats, Incarnation, run_id_of
from celery_runpod._store.pauses import PAUSE_BASE_S, PAUSE_CAP_S
from celery_runpod._store.record import JobRecord
from celery_runpod._store.store_part import Part

CONFIRMED_KEPT_S = 3600
LOW_PRIORITY_S = 1e10
"""Later than any time since 1970: RunPod may take these jobs after all others."""
ASK_AGAIN_S = 30.0
"""How often a job asks whether it is still held: the message that ends a hold may be lost with a process."""


@dataclass(frozen=True)
class Post:
    """One POST of a new job: `token` names it, RunPod was asked to hold the answer for `expected_s` seconds, and it is
    over by `given_up` (s since 1970)."""

    endpoint: str
    operation: str
    token: str
    expected_s: float
    given_up: float

    @property
    def member(self) -> str:
        """What stands in the zset `posts` (``claim_submit.lua``)."""
        return f"{self.given_up!r} {self.token}"


@dataclass(frozen=True)
class Signs:
    """What may forbid a submit. `paused_until` is in seconds since 1970, 0 without a pause; `notes` are those of
    cancels, as `cancel_notes` gives them."""

    incarnation: Incarnation
    on_hold: bool
    paused_until: float
    notes: dict[str, str]
    replicated: bool = True
    """Whether replicas follow the master, as far as they are wanted."""


@dataclass(frozen=True)
class Claim:
    """`word` is "go" (the caller alone may POST this attempt), "health" (the caller alone may try after a pause, once
    /health has answered), "wait" (`changed`: the reason is a new one), "refused" or "unknown"."""

    word: str
    attempt: int = 0
    reason: str = ""
    changed: bool = False
    before: int = 0
    """How many jobs at RunPod are before this one."""


@dataclass(eq=False)
class Submits(Part):
    """The gate of an endpoint, and the attempts that go through it."""

    cancels: Cancels
    workers: Heartbeats

    def signs(self, endpoint: str, ids: Iterable[str]) -> Signs:
        """What may forbid a submit to this endpoint; `ids` are those by which its cancel may have been noted."""
        wanted, guard = list(dict.fromkeys(ids)), self.keys.incarnation(self.workers.master_of(endpoint))
        with self.redis.pipeline(transaction=False) as pipe:
            # In this order: a restart between the two is seen as one.
            pipe.hmget(guard, ["run_id", "fence"])
            ask_which_server(pipe, guard)
            pipe.hmget(self.keys.holds(), [EVERY_ENDPOINT, endpoint])
            pipe.hget(self.keys.pause(endpoint, "run"), "until")
            pipe.mget([self.keys.cancel_note(any_id) for any_id in wanted])
            found: list[Any] = pipe.execute(raise_on_error=False)
        vouched, server, hold, until, noted = found
        for answer in found:
            # INFO may be forbidden, and nothing else.
            if isinstance(answer, RedisError) and not (answer is server and isinstance(answer, ResponseError)):
                raise answer
        serving = run_id_of(server)
        return Signs(
            incarnation=Incarnation(vouched[0] is None or serving in (None, vouched[0]), float(vouched[1] or 0.0)),
            on_hold=any(since is not None for since in hold),
            paused_until=float(until or 0.0),
            notes=self.cancels.settled_notes(dict(zip(wanted, noted, strict=True))),
        )

    def claim_submit(
        self,
        job: JobRecord,
        post: Post,
        now: float,
        window_ends: float,
        *,
        decide_at: float = 0.0,
        max_in_flight: int | None = None,
        held: str = "",
        healthy: bool = False,
        probe_until: float = 0.0,
    ) -> Claim:
        """Claim an attempt, or wait for the turn of the job, or until `decide_at`. With `held` ("ON_HOLD", "PAUSED" or
        "BUDGET") the job waits in any case; `healthy`: /health has answered the caller, who was asked for that."""
        word, *rest = self.scripts.run(
            "claim_submit",
            job=job,
            operation=post.operation,
            token=post.token,
            now=now,
            window_ends=window_ends,
            max_in_flight=max_in_flight,
            turn=job.turn,
            decide_at=decide_at,
            held=held,
            ask_again=now + ASK_AGAIN_S,
            expected=post.expected_s,
            given_up=post.given_up,
            healthy=healthy,
            probe_until=probe_until,
            place=now + LOW_PRIORITY_S if job.options.low_priority else now,
        )
        if word == "go":
            return Claim("go", attempt=int(rest[0]), before=int(rest[1]))
        return Claim("wait", reason=rest[0], changed=rest[1] == "changed") if word == "wait" else Claim(word)

    def confirm(
        self, endpoint: str, posts: Iterable[Post], now: float, replicas: int, wait_s: float
    ) -> set[str] | None:
        """The tokens of those of these claimed POSTs that so many replicas have; None: not so many have answered in time,
        or the master has changed meanwhile. One WAIT for all.

        Raises:
            redis.exceptions.RedisError: the master is away.
        """
        server = self.redis.master_of(self.keys.posts(endpoint)) if isinstance(self.redis, ClusterRedis) else self.redis
        by_member = {post.member: post.token for post in posts}

        def build(pipe: Any) -> None:
            self.scripts.run(
                "confirm_posts", endpoint=endpoint, now=now, ttl=CONFIRMED_KEPT_S, names=list(by_member), on=pipe
            )
            # Of the same connection, so that it is about the script's write, and all before it.
            pipe.wait(replicas, math.ceil(wait_s * 1000))

        try:
            found, reached = self.scripts.together(build, on=server)
        except MovedError:
            if isinstance(self.redis, ClusterRedis):
                self.redis.refresh()
            return None
        return {by_member[member] for member in found} if int(reached) >= replicas else None

    def end_post(
        self,
        post: Post,
        now: float,
        api_state: str,
        took_s: float | None = None,
        retry_after_s: float | None = None,
        spread: float = 0.0,
    ) -> tuple[str, float]:
        """("ended" | "opened" | "paused", until when in seconds since 1970); `api_state` as in the script."""
        word, *until = self._end_post(post, now, api_state, took_s, retry_after_s, spread)
        return word, float(until[0]) if until else 0.0

    def _end_post(
        self,
        post: Post,
        now: float,
        api_state: str,
        took_s: float | None,
        retry_after_s: float | None = None,
        spread: float = 0.0,
        on: Any = None,
    ) -> Any:
        return self.scripts.run(
            "end_post",
            endpoint=post.endpoint,
            operation=post.operation,
            token=post.token,
            given_up=post.given_up,
            now=now,
            api_state=api_state,
            took=None if took_s is None else max(0.0, took_s - post.expected_s),
            retry_after=retry_after_s,
            base=PAUSE_BASE_S,
            cap=PAUSE_CAP_S,
            spread=spread,
            on=on,
        )

    def may_submit(self, endpoint: str, now: float, max_in_flight: int | None = None, *, released: bool = False) -> int:
        """How many of the jobs that wait could be submitted now. `released`: the hold has ended."""
        count = self.scripts.run(
            "may_submit", endpoint=endpoint, now=now, max_in_flight=max_in_flight, released=released
        )
        return int(count)

    def not_submitted(self, job: JobRecord, due: float, reason: str) -> str:
        return self.scripts.word("not_submitted", job=job, due_at=due, reason=reason)

    def answered(
        self, job: JobRecord, job_id: str, look_at: float, now: float, post: Post, took_s: float, placed: bool = False
    ) -> tuple[str, str]:
        """RunPod has the job, and the POST is over, in one round trip: the words of ``scripts/submitted.lua`` and
        ``scripts/end_post.lua``. `placed`: the look was planned by the job's place in RunPod's queue."""

        def build(pipe: Any) -> None:
            self.scripts.run(
                "submitted",
                job=job,
                given_id=job_id,
                look_at=look_at,
                decide_at=min(job.end_by, job.start_by or math.inf),
                now=now,
                index_ttl=self.lives.index_s(job, now),
                placed=placed,
                on=pipe,
            )
            self._end_post(post, now, "works", took_s, on=pipe)

        recorded, gate = self.scripts.together(build)
        return str(recorded), str(gate[0])

    def candidates(self, job: JobRecord) -> list[str]:
        """The RunPod ids that webhooks named for this attempt, whose submit went unanswered."""
        found: Any = self.redis.smembers(self.keys.candidates(job.endpoint, job.task_id, job.attempt))
        return sorted(found)

    def drop_candidate(self, job: JobRecord, job_id: str) -> None:
        self.redis.srem(self.keys.candidates(job.endpoint, job.task_id, job.attempt), job_id)

    def adopt(self, job: JobRecord, job_id: str, now: float) -> str:
        return self.scripts.word("adopt", job=job, named_id=job_id, now=now, index_ttl=self.lives.index_s(job, now))
