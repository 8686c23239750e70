"""What an endpoint still owes: cancels that RunPod has not confirmed, outcomes that were not delivered.

Each is kept in a set of its own until it is settled, so that no restart, and no trouble with the API, loses one. A
check pays them with what time it has left.

Next: ``backoff.py``.
"""

from __future__ import annotations

import logging

from celery_runpod.errors import RequestRejected, RunPodError
from tasks.delivery import publish
from tasks.services import Services, apart

log = logging.getLogger(__name__)

CANCEL_LEASE_S, CANCEL_AGAIN_S = 30.0, 5.0
"""Longer than a POST may take; and soon, because a GPU is paid for meanwhile."""
CANCEL_BATCH = 20
# docs.runpod.io/serverless/endpoints/operation-reference: 20 /cancel at once


def pay_cancels(services: Services, endpoint: str, stop_at: float) -> None:
    """POST /cancel for what is owed, if it can be over before `stop_at` (s since the epoch)."""
    now = services.clock()
    owed = services.store.cancels_due(endpoint, now, CANCEL_BATCH)
    if not owed:
        return
    too_late = now + services.settings.poll_timeout_s > stop_at
    granted = 0 if too_late else services.budget.take(endpoint, "cancel", owed)
    # What is not granted is put off too, or the next check would come for it at once.
    again_at = now + (CANCEL_LEASE_S if granted else 1.0)
    debts = services.store.lease_cancels(endpoint, now, again_at, granted or owed)
    if granted:
        services.side_by_side(lambda debt: _cancel(services, endpoint, *debt), debts)


def _cancel(services: Services, endpoint: str, job_id: str, key_name: str) -> None:
    """POST /cancel until RunPod says that there is nothing left to cancel."""
    try:
        services.client(key_name or None).cancel(endpoint, job_id, timeout_s=services.settings.poll_timeout_s)
    except RequestRejected as error:
        if error.status in (401, 403):
            log.error("cancel.unauthorized", extra={"job_id": job_id, "error": str(error)})
            return
    except RunPodError as error:
        log.warning("cancel.failed", extra={"job_id": job_id, "error": str(error)})
        services.store.put_off_cancel(endpoint, job_id, services.clock() + CANCEL_AGAIN_S)
        return
    services.store.settle_cancel(endpoint, job_id)


def publish_undelivered(services: Services, endpoint: str) -> None:
    """Publish again what was recorded and not delivered in time."""
    now = services.clock()
    due = [
        task_id
        for task_id in services.store.undelivered(endpoint, now)
        if services.store.republish(endpoint, task_id, now) == "publish"
    ]
    for job in services.store.jobs(endpoint, due):
        with apart(task_id=job.task_id):
            publish(services, job)
