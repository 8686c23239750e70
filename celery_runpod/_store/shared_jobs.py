"""Jobs that calls with one idempotency key share: join, leave, hand over, close.

The shared job has a record of its own and goes the usual way; each call has one too, with its own continuation, and
waits in state JOINED. Not here: who hands the verdict over (`tasks/delivery.py`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from celery_runpod._store.record import JobRecord
from celery_runpod._store.states import OUTCOMES, State
from celery_runpod._store.store_part import Part

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


class SharedJobs(Part):
    """The shared jobs, and the calls that wait for each."""

    def join(self, job: JobRecord, shared: JobRecord, input_hash: str, due: float, look_again: float) -> Joined:
        """Make `job` wait for the job that holds its key; `shared` becomes that job if there is none."""
        found: Any = self.redis.hget(self.keys.shared(job.endpoint, shared.shares), "job")
        holder, replaces = found or shared.task_id, ""
        for _ in range(MOST_TRIES):
            answer = self.scripts.run(
                "join",
                job=job,
                key_hash=shared.shares,
                shared_id=holder,
                replaces=replaces,
                input_hash=input_hash,
                call_fields=json.dumps(replace(job, joined=holder).to_fields()),
                call_end_by=job.end_by,
                call_due=job.end_by if job.expires_at is None else min(job.end_by, job.expires_at),
                shared_fields=json.dumps(shared.to_fields()),
                shared_due=due,
                look_again=look_again,
            )
            if answer[0] == "free":
                holder, replaces = shared.task_id, holder
            elif answer[0] == "moved":
                holder, replaces = answer[1], ""
            else:
                return Joined(str(answer[0]), holder)
        raise RuntimeError(f"the key of task {job.task_id} changed hands {MOST_TRIES} times while it was to be joined")

    def leave(self, job: JobRecord, outcome: Mapping[str, Any], now: float, deliver_again_at: float) -> str:
        """The call waits no longer; with the last one its shared job is cancelled."""
        return self.scripts.word(
            "leave",
            job=job,
            shared_id=job.joined,
            outcome=json.dumps(outcome),
            now=now,
            deliver_again_at=deliver_again_at,
        )

    def followed(self, endpoint: str, task_id: str) -> str:
        """The id of the job that a call stands for: the shared one that it waits for, or its own."""
        found: Any = self.redis.hmget(self.keys.job(endpoint, task_id), ["state", "joined"])
        return str(found[1]) if found[0] == State.JOINED and found[1] else task_id

    def waiters(self, shared: JobRecord) -> list[str]:
        """The task ids of the calls that wait for a shared job."""
        return sorted(self.scanned_set(self.keys.waiters(shared.endpoint, shared.task_id)))

    def waiters_expire_at(self, shared: JobRecord) -> float | None:
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

    def close(self, shared: JobRecord) -> str:
        """Every waiter has its verdict."""
        return self.scripts.word(
            "close_shared", job=shared, shared_id=shared.task_id, key_hash=shared.shares, ttl=self.lives.key_s
        )
