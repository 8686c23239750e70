"""Idempotency keys: calls with one key and the same input share one job.

The first call begins the shared job, whose record goes the usual way; every call, the first too, waits for it with a
continuation of its own. Cancelling one call lets the others wait on; with the last one the job is cancelled.

Not here: how the store does it (`store/shared.py`), and how a verdict reaches those who wait (``delivery.py``).

Next: ``submit.py``.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from dataclasses import replace

from celery_runpod.errors import IdempotencyConflict, encode
from tasks.services import Services
from tasks.store.record import Job
from tasks.store.states import State


def join(services: Services, job: Job, due: float) -> tuple[str, Job, Job | None]:
    """Accept a call that has a key: as `store.accept` answers, the call's job, and the shared job if it is to be
    submitted now."""
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
    # The call itself waits for its deadline alone: what is submitted, polled and started is the shared job.
    waiter = replace(job, state=State.JOINED, start_by=None, input=None)
    joined = services.store.join(waiter, shared, _digest(json.dumps(job.input, sort_keys=True)), due, now)
    if joined.word == "conflict":
        problem = f"idempotency_key {key!r} belongs to a job with another input"
        error = IdempotencyConflict(problem, job.name, job.task_id)
        refused = replace(job, state=State.ENDED_HERE, outcome={"error": encode(error)})
        return services.store.accept(refused, now), refused, None
    word = "known" if joined.word == "known" else "accepted"
    return word, replace(waiter, joined=joined.shared_id), shared if joined.word == "begun" else None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
