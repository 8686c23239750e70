"""runpod.submit_sync: POST /runsync for one job, in a worker slot of its own.

RunPod holds the request until the job has ended, for up to `RUNPOD_SYNC_WAIT_S`. Accepting a call and a check are short
and serve others, so neither waits for it: they publish this message. Like every message it is a hint: the record says
whether the job still waits, and the store gives the attempt to one process alone.

Not here: the submit itself (``submit.py``).
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

from celery import shared_task

from celery_runpod._protocol import SUBMIT_SYNC
from celery_runpod._store.record import JobRecord
from celery_runpod._store.states import State
from tasks.crash_points import Step, reach
from tasks.deliver_here import Outcomes
from tasks.publish_check import plan_check
from tasks.services import Services, services_of
from tasks.submit import submit

log = logging.getLogger(__name__)

MESSAGE_S = 30.0
"""If the job still waits after so long, a check publishes the message again: it was lost, or no slot was free."""
LONGEST_S = 600.0


def again_at(job: JobRecord, now: float) -> float:
    """When to publish the message for a job again that still waits: after as long as it has waited, so that messages do
    not pile up where no slot is free."""
    waited_s = now - max(job.accepted_at, job.not_before)
    return now + min(max(MESSAGE_S, waited_s), LONGEST_S)


def publish_submit(services: Services, job: JobRecord, lease: float) -> None:
    """Publish the message for a WAITING job, which is due again at `lease`."""
    services.app.tasks[SUBMIT_SYNC].apply_async(
        (job.endpoint, job.task_id, lease),
        queue=services.settings.queues.run,
        shadow=f"{SUBMIT_SYNC}[{job.name}]",
        ignore_result=True,
        add_to_parent=False,
    )


@shared_task(bind=True, name=SUBMIT_SYNC, ignore_result=True, send_events=False)
def submit_sync(self: Any, endpoint: str, task_id: str, lease: float) -> None:
    """Submit this job if it still waits."""
    services = services_of(self.app)
    outcomes = Outcomes(services)
    services = replace(services, takes_outcome=outcomes.take)
    reach(Step.SYNC_RECEIVED)
    for job in services.store.jobs(endpoint, [task_id]):
        if job.state is State.WAITING:
            try:
                submit(services, job, lease)
                outcomes.deliver_until_done()
            finally:
                log.debug("work.over", extra={"task_id": job.task_id})
            plan_check(services, endpoint, services.store.least_due(endpoint) or lease)
