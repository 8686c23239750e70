"""Jobs that calls with one idempotency key share: join, leave, hand over, close.

The shared job has a record of its own and goes the usual way; each call has one too, with its own continuation, and
waits in state JOINED. Not here: who hands the verdict over (`tasks/delivery.py`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from celery_runpod._store.record import Job
from celery_runpod._store.states import OUTCOMES, State
from celery_runpod._store.upkeep import Upkeep

MOST_TRIES = 20


@dataclass(frozen=True)
class Joined:
    """What became of a call with a key: "begun" | "joined" | "ended" | "conflict" | "known" (a repeat of a message)."""

    word: str
    shared_id: str


@dataclass(frozen=True)
class Verdict:
    """How a shared job ended."""

    state: State
    outcome: dict[str, Any]
    job_id: str


class SharedJobs(Upkeep):
    """The part of the store that is about shared jobs."""

    def join(self, job: Job, shared: Job, input_hash: str, due: float, look_again: float) -> Joined:
        """Make `job` wait for the job that holds its key; `shared` becomes that job if there is none."""
        endpoint, key = job.endpoint, self.keys.shared(job.endpoint, shared.shares)
        found: Any = self.redis.hget(key, "job")
        holder, replaces = found or shared.task_id, ""
        for _ in range(MOST_TRIES):
            keys = [
                key,
                self.keys.job(endpoint, job.task_id),
                self.keys.job(endpoint, holder),
                self.keys.waiters(endpoint, holder),
                self.keys.due(endpoint),
                self.keys.input_bytes(endpoint),
            ]
            own = json.dumps(replace(job, joined=holder).to_fields())
            answer = self._run(
                "join",
                keys,
                job.task_id,
                holder,
                replaces,
                input_hash,
                own,
                job.end_by,
                job.end_by if job.expires_at is None else min(job.end_by, job.expires_at),
                json.dumps(shared.to_fields()),
                due,
                look_again,
            )
            if answer[0] == "free":
                holder, replaces = shared.task_id, holder
            elif answer[0] == "moved":
                holder, replaces = answer[1], ""
            else:
                return Joined(str(answer[0]), holder)
        raise RuntimeError(f"the key of task {job.task_id} changed hands {MOST_TRIES} times while it was to be joined")

    def leave(self, job: Job, outcome: Mapping[str, Any], now: float, deliver_again_at: float) -> str:
        """The call waits no longer; with the last one its shared job is cancelled."""
        keys = [*self._ending_keys(job.endpoint, job.joined), self.keys.waiters(job.endpoint, job.joined)]
        args = (job.joined, job.task_id, json.dumps(outcome), now, deliver_again_at)
        return str(self._run("leave", keys, *args))

    def waiters(self, shared: Job) -> list[str]:
        """The task ids of the calls that wait for a shared job."""
        found: Any = self.redis.smembers(self.keys.waiters(shared.endpoint, shared.task_id))
        return sorted(found)

    def waiters_expire_at(self, shared: Job) -> float | None:
        """When the last of the calls that wait for a shared job expires; None if one of them does not."""
        with self.redis.pipeline(transaction=False) as pipe:
            for task_id in self.waiters(shared):
                pipe.hmget(self.keys.job(shared.endpoint, task_id), ["state", "expires_at"])
            found = [expires_at for state, expires_at in pipe.execute() if state == State.JOINED]
        return max(map(float, found)) if found and all(found) else None

    def verdict(self, endpoint: str, shared_id: str) -> Verdict | None:
        """How a shared job ended, while its key is kept; None while it is open, and when it is forgotten."""
        names = ["state", "verdict", "outcome", "job_id"]
        found: Any = self.redis.hmget(self.keys.job(endpoint, shared_id), names)
        state, verdict, outcome, job_id = found
        ended = verdict if state == State.DELIVERED else state
        if outcome is None or ended not in OUTCOMES:
            return None
        return Verdict(State(ended), json.loads(outcome), job_id or "")

    def close_shared(self, shared: Job) -> str:
        """Every waiter has its verdict."""
        keys = [
            self.keys.job(shared.endpoint, shared.task_id),
            self.keys.shared(shared.endpoint, shared.shares),
            self.keys.undelivered(shared.endpoint),
            self.keys.waiters(shared.endpoint, shared.task_id),
            self.keys.due(shared.endpoint),
            self.keys.input_bytes(shared.endpoint),
        ]
        return str(self._run("close_shared", keys, shared.task_id, self.key_ttl_s))
