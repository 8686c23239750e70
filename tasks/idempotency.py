"""Idempotency keys: calls with one key and the same input share one job.

The first call creates the shared job, which is submitted and checked as every job. Each call, also the first, waits for
it with its own continuation. If one call is cancelled, the others still wait; if the last one is, the job is cancelled.
Each call has its own `expires`: if it expires before the shared job is submitted, the call leaves that job.

Not here: how the store does it (`celery_runpod/_store/`), and how the calls end (``delivery.py``).
"""

from __future__ import annotations

import hashlib
import json
import uuid
from dataclasses import replace

from celery_runpod._store.record import JobRecord
from celery_runpod._store.states import State
from celery_runpod.errors import IdempotencyConflict, encode
from tasks.delivery import end_revoked, leave_shared
from tasks.services import Services


def join(services: Services, job: JobRecord, due: float) -> tuple[str, JobRecord, JobRecord | None]:
    """Accept a call that has a key. Returns the answer of `store.accept`, the call's job, and the shared job if it is to
    be submitted now."""
    key, now = str(job.options.idempotency_key), services.clock()
    shared_id = str(uuid.uuid4())
    shared = replace(
        job,
        task_id=shared_id,
        root_id=shared_id,
        group_ids=(),
        continuation="",
        shares=_digest(key),
        options=replace(job.options, idempotency_key=None, on_error=None),
        expires_at=None,
    )
    # The call itself only waits; the shared job is submitted and polled.
    waiter = replace(job, state=State.JOINED, start_by=None, input=None)
    joined = services.store.shared.join(waiter, shared, _digest(json.dumps(job.input, sort_keys=True)), due, now)
    if joined.word == "conflict":
        problem = f"idempotency_key {key!r} belongs to a job with another input"
        error = IdempotencyConflict(problem, job.name, job.task_id)
        refused = replace(job, state=State.ENDED_HERE, outcome={"error": encode(error)})
        return services.store.accept(refused, now), refused, None
    accepted = "known" if joined.word == "known" else "accepted"
    return accepted, replace(waiter, joined=joined.shared_id), shared if joined.word == "begun" else None


def let_expire(services: Services, waiter: JobRecord, now: float) -> float | None:
    """When to look again at a call that waits for a shared job; None if it has expired, and left that job."""
    if waiter.expires_at is None:
        return waiter.end_by
    if now < waiter.expires_at:
        return min(waiter.expires_at, waiter.end_by)
    for shared in services.store.jobs(waiter.endpoint, [waiter.joined]):
        if shared.state is State.WAITING and not shared.retried:
            end_revoked(services, waiter, "expired")
            leave_shared(services, waiter)
            return None
        if shared.state is State.SUBMITTING and not shared.retried:
            # If RunPod does not accept it, it was not submitted in time.
            return min(shared.window_ends or waiter.end_by, waiter.end_by)
    return waiter.end_by


def let_all_expire(services: Services, shared: JobRecord, now: float) -> None:
    """Let every expired call leave a shared job that was not submitted in time. When the last leaves, it is cancelled."""
    for waiter in services.store.jobs(shared.endpoint, services.store.shared.waiters(shared)):
        let_expire(services, waiter, now)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
