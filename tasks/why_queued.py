"""Why a job waits in RunPod's queue (COLD_START, NO_CAPACITY or WORKERS_UNHEALTHY), and how many are in progress, from a
look at /health.

One look at /health serves all workers and all jobs of an endpoint for some seconds. It is made only if /status has just
said that a job is queued for longer than a start usually takes, and while looks are planned by places in the queue
(``runpod_queue.py``). An unanswered /health sets no reason.
"""

from __future__ import annotations

import logging
import threading

from celery_runpod._store.record import JobRecord
from celery_runpod._store.states import State
from celery_runpod.api import Health
from celery_runpod.errors import ConfigurationError, RunPodError, Unauthorized
from tasks.services import Services, apart

log = logging.getLogger(__name__)

PATIENCE_S = 3.0
LOOK_EVERY_S = 10.0
LOOK_S = 4.0
"""A look at /health that takes longer is given up, because it holds up a check."""


def ask_health(services: Services, job: JobRecord, now: float, why: str) -> str:
    """Ask /health of the job's endpoint, and note how many jobs are in progress. Returns why jobs wait in RunPod's queue;
    `why`, as the last look found it, if /health does not answer."""
    try:
        health = services.client(job.api_key_name).health(job.endpoint, timeout=LOOK_S)
    except RunPodError as error:
        log.info("health.unanswered", extra={"endpoint": job.name, "error": str(error)})
        return why
    reason = reason_of(health)
    services.store.health.note_health(job.endpoint, reason, health.in_progress, now)
    return reason


class WhyQueued:
    """Why jobs of one endpoint wait, as asked once by a check that began at `now`."""

    def __init__(self, services: Services, endpoint: str, now: float) -> None:
        self._services, self._endpoint, self._now = services, endpoint, now
        self._lock = threading.Lock()
        self._why: str | None = None

    def of(self, job: JobRecord) -> str:
        """The reason of a job in RunPod's queue; "" if it has not waited for long, or the reason is not known."""
        if job.state is not State.IN_QUEUE or not waits_long(job, self._now):
            return ""
        with self._lock:
            if self._why is None:
                self._why = ""
                with apart(endpoint=self._endpoint):
                    self._why = self._ask(job)
            return self._why

    def _ask(self, job: JobRecord) -> str:
        mine, why, _ = self._services.store.health.claim_health_look(self._endpoint, self._now, LOOK_EVERY_S)
        return ask_health(self._services, job, self._now, why) if mine else why


def waits_long(job: JobRecord, now: float) -> bool:
    """Whether a job in RunPod's queue has waited for longer than a start usually takes."""
    start_is_late = job.start_by is not None and now >= job.start_by
    return start_is_late or now - (job.submitted_at or job.accepted_at) >= PATIENCE_S


def reason_of(health: Health) -> str:
    """Why jobs wait, from the counts of an endpoint's workers.

    >>> reason_of(Health(in_queue=3, throttled=2))
    'NO_CAPACITY'
    """
    at_work = health.ready or health.idle or health.running
    if health.unhealthy and not at_work:
        return "WORKERS_UNHEALTHY"
    if health.initializing:
        return "COLD_START"
    if not at_work or (health.throttled and not health.idle):
        return "NO_CAPACITY"
    return ""


def refusal(error: RunPodError) -> str:
    """The reason to show for a job at which RunPod refuses a look."""
    return "UNAUTHORIZED" if isinstance(error, Unauthorized | ConfigurationError) else "API_REFUSES"
