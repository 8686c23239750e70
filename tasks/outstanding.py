"""Repeats what is not done yet for an endpoint: cancels that RunPod has not confirmed, outcomes that were not delivered.

Each is kept in the store until it is settled, so that no restart and no trouble with the API loses one. A check works on
them in the time that it has left.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from celery_runpod._protocol import DAY_S
from celery_runpod.errors import (
    ConfigurationError,
    EndpointNotFound,
    JobNotFound,
    RateLimited,
    RequestRejected,
    RunPodError,
)
from tasks.budget import PER_WINDOW, WINDOW_S
from tasks.delivery import publish
from tasks.own_verdicts import ENDPOINT_MISSING_S, MISSING_S
from tasks.publish_check import plan_check
from tasks.services import Services, apart

log = logging.getLogger(__name__)

CANCEL_LEASE_S = 30.0
"""Longer than a POST may take."""
FAILED_S, FAILED_CAP_S = 5.0, 60.0
"""How soon a cancel without an answer is tried again; meanwhile the GPU is paid for."""
REFUSED_S, REFUSED_CAP_S = 30.0, 600.0
"""How soon a cancel is tried again if its API key is refused or missing: somebody must set the key first."""
GIVE_UP_S = DAY_S
"""After this time RunPod has deleted the job: its default time to live is 24 hours.
docs.runpod.io/serverless/endpoints/send-requests#execution-policies"""
GONE_S: dict[type[RunPodError], float] = {JobNotFound: MISSING_S, EndpointNotFound: ENDPOINT_MISSING_S}
"""So long a job or endpoint must be missing until nothing is left to cancel."""
DELIVER_S, DELIVER_BATCH = 0.5, 50
"""For so long a check delivers outcomes that it has not found itself (a cancel of thousands leaves them to the checks):
longer, and it would count as a slow one (`celery_app/overrides/check_slots.py`). So many records are read at once."""
CANCEL_BATCH = 20
# docs.runpod.io/serverless/endpoints/operation-reference: 20 /cancel at once
BATCH_EVERY_S = CANCEL_BATCH * WINDOW_S / PER_WINDOW["cancel"]
"""After this time the budget has room for the next batch."""


def repeat_outstanding(services: Services, endpoint: str, stop_at: float, deliver: Callable[[], None]) -> None:
    """Do what is due again; a POST, only if it can be over before `stop_at` (s since 1970). `deliver` delivers the
    outcomes that the check has taken."""
    with apart(endpoint=endpoint):
        now = services.clock()
        outstanding = services.store.outstanding(endpoint, now)
        if outstanding.cancels:
            with apart(endpoint=endpoint):
                _send_cancels(services, endpoint, min(outstanding.cancels, CANCEL_BATCH), stop_at)
        if outstanding.undelivered:
            _deliver_again(services, endpoint, outstanding.undelivered, stop_at, deliver)


def _send_cancels(services: Services, endpoint: str, due: int, stop_at: float) -> None:
    """POST /cancel for so many cancels, as far as the budget goes."""
    now = services.clock()
    too_late = now + services.settings.poll_timeout_s > stop_at
    granted = 0 if too_late else services.budget.take(endpoint, "cancel", due)
    if not granted:
        # Put off all of them, or the next check would come at once.
        services.store.cancels.put_off_cancels(endpoint, now + (1.0 if too_late else BATCH_EVERY_S))
        return
    cancels = services.store.cancels.lease_cancels(endpoint, now, now + CANCEL_LEASE_S, granted)
    services.side_by_side(lambda one: _cancel(services, endpoint, *one), cancels)


def _cancel(services: Services, endpoint: str, job_id: str, key_name: str) -> None:
    """POST /cancel once. It is settled if RunPod accepts it, or has nothing to cancel. One 404 does not settle it, as it
    ends no job (``own_verdicts.py``): a replica may not have heard of the job yet."""
    try:
        services.client(key_name or None).cancel(endpoint, job_id, timeout=services.settings.poll_timeout_s)
    except RunPodError as error:
        refused = isinstance(error, ConfigurationError) or (
            isinstance(error, RequestRejected) and error.status in (401, 403)
        )
        if refused or type(error) in GONE_S or not isinstance(error, RequestRejected):
            _not_cancelled(services, endpoint, job_id, error, refused=refused)
            return
    services.store.cancels.settle_cancel(endpoint, job_id)


def _not_cancelled(services: Services, endpoint: str, job_id: str, error: RunPodError, *, refused: bool) -> None:
    now, why = services.clock(), f"{type(error).__name__}: {error}"[:200]
    if isinstance(error, RateLimited):
        # RunPod may ask for an hour, and would go on with a job that is paid for.
        services.store.cancels.put_off_cancels(endpoint, now + min(error.retry_after_s or FAILED_S, FAILED_CAP_S))
    base_s, cap_s = (REFUSED_S, REFUSED_CAP_S) if refused else (FAILED_S, FAILED_CAP_S)
    gone_s = GONE_S.get(type(error))
    retried, tries, since = services.store.cancels.cancel_failed(
        endpoint,
        job_id,
        why,
        now,
        base_s=base_s,
        cap_s=cap_s,
        most_s=GIVE_UP_S,
        gone=type(error).__name__ if gone_s else "",
        gone_s=gone_s,
    )
    fields = {"job_id": job_id, "endpoint": endpoint, "error": str(error), "tries": tries}
    if retried == "given_up" and gone_s is None:
        problem = f"not cancelled in {(now - since) / 3600:.0f} h: RunPod may still run this job, and bill it"
        log.critical("cancel.given_up", extra={**fields, "problem": problem})
    elif refused:
        log.error("cancel.unauthorized", extra=fields)
    else:
        log.warning("cancel.failed", extra=fields)


def _deliver_again(
    services: Services, endpoint: str, task_ids: Sequence[str], stop_at: float, deliver: Callable[[], None]
) -> None:
    """Deliver outcomes that were not delivered in time: here once, if no process has begun to, and else by messages,
    because one that ends its process must not end check after check. What there is no time for is due in the next one."""
    stop_at = min(stop_at, services.clock() + DELIVER_S)
    if len(task_ids) > DELIVER_BATCH:
        plan_check(services, endpoint, services.clock())
    for start in range(0, len(task_ids), DELIVER_BATCH):
        if (now := services.clock()) >= stop_at:
            break
        words = services.store.deliver_again(endpoint, task_ids[start : start + DELIVER_BATCH], now)
        due = [task_id for task_id, word in words.items() if word in ("first", "publish")]
        for job in services.store.jobs(endpoint, due):
            with apart(task_id=job.task_id):
                if words[job.task_id] != "first" or not services.takes_outcome(job):
                    publish(services, job)
        deliver()
