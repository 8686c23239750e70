"""What a worker does with a webhook's hint: it adopts an unanswered submit, looks again soon, and sees a stuck /status.

/status alone says how a job ended; the webhook's body is not read here. RunPod's /status may say IN_PROGRESS for ever
after the end (runpod-python#250: a late progress update covers the result); such an answer has an `executionTime`. Looks
then become rarer until RunPod's retention is over.

Whoever has the URL can give a hint at any time. So a hint alone never ends a job before its deadline: only an answer
with an `executionTime` does.

Not here: receiving a webhook (`celery_runpod/_webhooks/receive.py`), recording the hint
(`celery_runpod/_store/scripts/hint.lua`), other looks (``check.py``).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from celery_runpod._store.record import JobRecord
from celery_runpod._store.states import State
from celery_runpod.api import Job
from celery_runpod.errors import ApiError, RunPodError, StatusStuck
from tasks.own_verdicts import kept_s, status_stuck
from tasks.services import Services
from tasks.streaming import before_chunks

log = logging.getLogger(__name__)

STUCK_AFTER_S = 60.0
FIRST_S, LONGEST_S = 1.0, 300.0
NOT_FOUND_GRACE_S = 5.0
"""An id is dropped only if /status does not know it this long after the first hint: a replica may lag."""
UNKNOWN = (400, 404, 422)
"""The HTTP statuses of RunPod's API for an id that is not a job's."""


@dataclass(frozen=True)
class Adopted:
    """The job, with its RunPod id, and what /status said of it."""

    job: JobRecord
    answer: Job


def adopt(services: Services, job: JobRecord, stop_at: float) -> Adopted | float | None:
    """Ask /status for the ids that webhooks named for an unanswered submit. Returns the adopted job; or when to ask again
    (s since 1970); or None if no id was named that may be the job's."""
    if job.hinted_at is None:
        return None
    store, now = services.store, services.clock()
    candidates = store.submits.candidates(job)
    if not candidates:
        return None
    if now < (answered_by := _answered_by(services, job)):
        # The POST may still be answered; then no webhook is needed.
        return answered_by
    if (paused := store.pauses.paused_until(job.endpoint, "status")) is not None and paused > now:
        return paused + services.spread()
    granted = services.budget.take(job.endpoint, "status", len(candidates))
    client, timeout_s = services.client(job.api_key_name), services.settings.poll_timeout_s
    for job_id in candidates[:granted]:
        if services.clock() + timeout_s > stop_at:
            break
        fields = {"task_id": job.task_id, "job_id": job_id, "attempt": job.attempt}
        try:
            answer = client.status(job.endpoint, job_id, timeout=timeout_s)
        except ApiError as error:
            if error.status not in UNKNOWN:
                log.warning("webhook.not_confirmed", extra=fields | {"error": str(error)})
            elif now >= job.hinted_at + NOT_FOUND_GRACE_S:
                log.warning("webhook.unknown_job", extra=fields)
                store.submits.drop_candidate(job, job_id)
            continue
        except RunPodError as error:
            log.warning("webhook.not_confirmed", extra=fields | {"error": str(error)})
            continue
        adopted = store.submits.adopt(job, job_id, now)
        if adopted == "adopted":
            log.info("webhook.adopted", extra=fields)
            found = replace(job, state=State.IN_QUEUE, job_id=job_id, submitted_at=now, checks=0, reason="")
            services.show(found, State.IN_QUEUE, {})
            return Adopted(found, before_chunks(found, answer))
        log.warning("webhook.not_adopted", extra=fields | {"answer": adopted})
    if not store.submits.candidates(job):
        return None
    return now + _grown_s(now - job.hinted_at, LONGEST_S)


def _answered_by(services: Services, job: JobRecord) -> float:
    """When the POST of a submit has been answered, or never will be."""
    if job.reason == "UNCONFIRMED" or job.window_ends is None:
        return 0.0
    begun_at = job.window_ends - services.settings.window_s(services.has_webhook(job))
    return begun_at + services.settings.longest_post_s


def pause_s(job: JobRecord, answer: Job, now: float, usual_s: float) -> float:
    """Seconds until the next look: soon after a hint, because a webhook may come before /status knows the end; growing
    while /status is stuck; else `usual_s`."""
    since = _ended_at(job, answer)
    if since is None:
        return usual_s
    return _grown_s(now - since, LONGEST_S if answer.execution_s is not None else usual_s)


def stuck(job: JobRecord, answer: Job, now: float) -> bool:
    """Whether /status says IN_PROGRESS of a job that ended a minute ago."""
    since = _ended_at(job, answer)
    return answer.state == State.IN_PROGRESS and since is not None and now >= since + STUCK_AFTER_S


def given_up(job: JobRecord, answer: Job, now: float) -> StatusStuck | None:
    """The error of a job whose /status stayed stuck until RunPod deleted the result."""
    since = _ended_at(job, answer)
    if answer.execution_s is None or since is None or not stuck(job, answer, now):
        return None
    return status_stuck(job) if now >= since + kept_s(job) else None


def _ended_at(job: JobRecord, answer: Job) -> float | None:
    """When the job ended, by RunPod's own times, else by the first hint; None if neither says so."""
    times = (job.submitted_at, answer.delay_s, answer.execution_s)
    if answer.state == State.IN_PROGRESS and None not in times:
        return sum(time for time in times if time is not None)
    return job.hinted_at


def _grown_s(age_s: float, longest_s: float) -> float:
    return min(max(FIRST_S, age_s / 2), longest_s)
