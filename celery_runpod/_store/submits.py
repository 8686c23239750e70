"""What the store does for a submit: what forbids it, the claim of one attempt, the end of its POST, who goes next.

All POSTs of new jobs of an endpoint go through one gate (`gate.lua`, docs/decisions/0014): after trouble one job tries
first, and while a POST under way is late none begins. What the gate holds back waits in the order of the calls, with
what waits for a place of `max_in_flight`, and is not looked at until it may go.

Not here: what an answer of RunPod's means (`tasks/submit.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from redis.exceptions import RedisError, ResponseError

from celery_runpod._protocol import DAY_S
from celery_runpod._store.record import Job
from celery_runpod._store.upkeep import PAUSE_BASE_S, PAUSE_CAP_S, Epoch, Upkeep

ALL = "*"
"""Stands in the brake's hash for every endpoint."""
ASK_AGAIN_S = 30.0
"""How often a job asks whether the brake is still on: its release may be lost with a process."""


@dataclass(frozen=True)
class Post:
    """One POST of a new job: `token` names it, RunPod was asked to hold the answer for `expected_s` seconds, and it is
    over by `given_up` (s since the epoch)."""

    endpoint: str
    operation: str
    token: str
    expected_s: float
    given_up: float


@dataclass(frozen=True)
class Signs:
    """What may forbid a submit. `paused_until` is in seconds since the epoch, 0 without a pause; `notes` are those of
    cancels, as `cancel_notes` gives them."""

    epoch: Epoch
    on_hold: bool
    paused_until: float
    notes: dict[str, str]


@dataclass(frozen=True)
class Claim:
    """`word` is "go" (the caller alone may POST this attempt), "health" (the caller alone may try after a pause, once
    /health has answered), "wait" (`changed`: the reason is a new one), "refused" or "unknown"."""

    word: str
    attempt: int = 0
    reason: str = ""
    changed: bool = False


class Submits(Upkeep):
    """The part of the store that is about submits."""

    def signs(self, endpoint: str, ids: Iterable[str]) -> Signs:
        """What may forbid a submit to this endpoint; `ids` are those by which its cancel may have been noted."""
        wanted = list(dict.fromkeys(ids))
        with self.redis.pipeline(transaction=False) as pipe:
            # In this order: a restart between the two is seen as one.
            pipe.hmget(self.keys.epoch(), ["run_id", "fence"])
            pipe.info("server")
            pipe.hmget(self.keys.brake(), [ALL, endpoint])
            pipe.hget(self.keys.pause(endpoint, "run"), "until")
            pipe.mget([self.keys.cancel_note(any_id) for any_id in wanted])
            found: list[Any] = pipe.execute(raise_on_error=False)
        epoch, server, brake, until, noted = found
        for answer in found:
            # INFO may be forbidden, and nothing else.
            if isinstance(answer, RedisError) and not (answer is server and isinstance(answer, ResponseError)):
                raise answer
        serving = self._serving(server)
        return Signs(
            epoch=Epoch(epoch[0] is None or serving in (None, epoch[0]), float(epoch[1] or 0.0)),
            on_hold=any(since is not None for since in brake),
            paused_until=float(until or 0.0),
            notes=self.settled_notes(dict(zip(wanted, noted, strict=True))),
        )

    def claim_submit(
        self,
        job: Job,
        post: Post,
        now: float,
        window_ends: float,
        *,
        look_again: float = 0.0,
        max_in_flight: int | None = None,
        held: str = "",
        healthy: bool = False,
        probe_until: float = 0.0,
    ) -> Claim:
        """Claim an attempt, or wait in the order of the calls, or until `look_again`. With `held` ("ON_HOLD" or
        "PAUSED") the job waits in any case; `healthy`: /health has answered the caller, who was asked for that."""
        keys = [
            self.keys.job(job.endpoint, job.task_id),
            self.keys.due(job.endpoint),
            self.keys.inflight(job.endpoint),
            self.keys.waiting(job.endpoint),
            self.keys.pause(job.endpoint, "run"),
            self.keys.posts(job.endpoint),
            self.keys.post_times(job.endpoint, post.operation),
        ]
        args = (
            job.task_id,
            post.token,
            now,
            window_ends,
            "" if max_in_flight is None else max_in_flight,
            job.not_before,
            look_again,
            held,
            now + ASK_AGAIN_S,
            post.expected_s,
            post.given_up,
            "1" if healthy else "",
            probe_until,
        )
        word, *rest = self._run("claim_submit", keys, *args)
        if word == "go":
            return Claim("go", attempt=int(rest[0]))
        return Claim("wait", reason=rest[0], changed=rest[1] == "changed") if word == "wait" else Claim(word)

    def end_post(
        self,
        post: Post,
        now: float,
        verdict: str,
        took_s: float | None = None,
        retry_after_s: float | None = None,
        spread: float = 0.0,
    ) -> tuple[str, float]:
        """("ended" | "opened" | "paused", until when in seconds since the epoch); `verdict` as in the script."""
        keys = [
            self.keys.pause(post.endpoint, "run"),
            self.keys.posts(post.endpoint),
            self.keys.post_times(post.endpoint, post.operation),
            self.keys.waiting(post.endpoint),
            self.keys.due(post.endpoint),
        ]
        took = "" if took_s is None else max(0.0, took_s - post.expected_s)
        after = "" if retry_after_s is None else retry_after_s
        args = (post.token, post.given_up, now, verdict, took, after, PAUSE_BASE_S, PAUSE_CAP_S, spread)
        word, *until = self._run("end_post", keys, *args)
        return word, float(until[0]) if until else 0.0

    def admit(
        self, endpoint: str, now: float, max_in_flight: int | None = None, most: int = 500, *, released: bool = False
    ) -> int:
        """How many of the jobs that wait to be submitted are due now."""
        keys = [
            self.keys.due(endpoint),
            self.keys.inflight(endpoint),
            self.keys.waiting(endpoint),
            self.keys.pause(endpoint, "run"),
            self.keys.posts(endpoint),
        ]
        limit = "" if max_in_flight is None else max_in_flight
        return int(self._run("admit", keys, now, most, limit, "1" if released else ""))

    def release(self, endpoint: str, now: float, max_in_flight: int | None = None) -> int:
        """Make jobs due after the brake was released; answers how many. The others follow them."""
        return self.admit(endpoint, now, max_in_flight, released=True)

    def not_submitted(self, job: Job, due: float, reason: str) -> str:
        keys = [
            self.keys.job(job.endpoint, job.task_id),
            self.keys.due(job.endpoint),
            self.keys.inflight(job.endpoint),
        ]
        return str(self._run("not_submitted", keys, job.task_id, job.attempt, due, reason))

    def submitted(self, job: Job, job_id: str, due: float, now: float) -> str:
        keys = [
            self.keys.job(job.endpoint, job.task_id),
            self.keys.due(job.endpoint),
            self.keys.cancels(job.endpoint),
            self.keys.cancel_keys(job.endpoint),
            self.keys.by_job_id(job.endpoint, job_id),
        ]
        args = (job.task_id, job.attempt, job_id, due, now, job.api_key_name or "", self._index_ttl_s(job, now))
        return str(self._run("submitted", keys, *args))

    def candidates(self, job: Job) -> list[str]:
        """The RunPod ids that webhooks named for this attempt, whose submit went unanswered."""
        found: Any = self.redis.smembers(self.keys.candidates(job.endpoint, job.task_id, job.attempt))
        return sorted(found)

    def drop_candidate(self, job: Job, job_id: str) -> None:
        self.redis.srem(self.keys.candidates(job.endpoint, job.task_id, job.attempt), job_id)

    def adopt(self, job: Job, job_id: str, now: float) -> str:
        keys = [
            self.keys.job(job.endpoint, job.task_id),
            self.keys.candidates(job.endpoint, job.task_id, job.attempt),
            self.keys.by_job_id(job.endpoint, job_id),
        ]
        return str(self._run("adopt", keys, job.task_id, job.attempt, job_id, now, self._index_ttl_s(job, now)))

    def _index_ttl_s(self, job: Job, now: float) -> int:
        """How long the index from RunPod's id to this task is kept: over the life of record and tombstone, in seconds."""
        return self.tombstone_ttl_s + int(max(0.0, job.end_by - now) + DAY_S)
