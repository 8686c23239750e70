"""Finds out which jobs a purge of an endpoint's queue removed; they end with JobPurged.

RunPod does not say which jobs it removed, so the time of the purge is kept. A job that was queued before it, and that
RunPod then calls CANCELLED or does not know, was removed by it. Running jobs go on.

Not here: the purge itself (``endpoint_tasks.py``).
"""

from __future__ import annotations

from celery_runpod._store.record import JobRecord
from celery_runpod._store.states import State
from celery_runpod.errors import JobPurged
from tasks.services import Services


def purge_of(services: Services, job: JobRecord) -> JobPurged | None:
    """The error of a job that RunPod has CANCELLED, or does not know; None if no purge removed it."""
    if job.state is not State.IN_QUEUE:
        return None
    purged_at = services.store.purges.purged_at(job.endpoint)
    if purged_at is None or (job.submitted_at or job.accepted_at) > purged_at:
        return None
    problem = "a purge of the endpoint's queue removed the job before any RunPod worker took it"
    return JobPurged(problem, job.name, job.task_id, job.job_id)
