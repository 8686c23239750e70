"""[8 of 8] The one way to a job's end: outcome recorded, continuation published, `finish` run under the caller's id.

`finish` returns the output or raises the typed error, so that Celery itself stores the result and runs the rest of
the chain, chord and links. One copy of it delivers at a time: `claim_finish` holds it for longer than Celery's own
chord claim. A verdict whose `finish` was lost is published again by the next check (`check.py`).

Next: `celery_runpod/results.py`, where the caller reads the result.
"""

from __future__ import annotations

import logging
import uuid
from typing import Any

from celery import Task, shared_task, states
from celery.exceptions import Ignore, TaskRevokedError
from kombu.exceptions import OperationalError

from celery_runpod.api import Job as Answer
from celery_runpod.contract import FINISH, RUN
from celery_runpod.errors import JobUndeliverable, RunPodError, decode, encode
from tasks.guard import nothing_but_verdicts
from tasks.parking import unpark
from tasks.services import Services, services
from tasks.steps import Step, reach
from tasks.store.record import Job
from tasks.store.states import State

log = logging.getLogger(__name__)

REPUBLISH_S = 30.0
MOST_CLAIMS = 10
"""After so many claims without an end, the output itself must be what kills `finish`: an error is delivered."""


def end_by_answer(services: Services, job: Job, answer: Answer) -> str:
    """Record RunPod's verdict on an attempt and publish the continuation."""
    failure = answer.failure(job.name, job.task_id)
    outcome = {
        "output": answer.output if failure is None else None,
        "error": None if failure is None else encode(failure),
        "delay_s": answer.delay_s,
        "execution_s": answer.execution_s,
    }
    return _end(services, job, State(answer.state), outcome, job_id=answer.id)


def end_here(services: Services, job: Job, error: RunPodError, *, cancel: bool = False) -> str:
    """Record our own verdict; with `cancel`, what RunPod may still be doing for this job is cancelled."""
    return _end(services, job, State.ENDED_HERE, {"error": encode(error)}, cancel=cancel)


def end_expired(services: Services, job: Job) -> str:
    """Celery's `expires` passed before the job could be submitted: REVOKED, as Celery does."""
    return _end(services, job, State.CANCELLED, {"reason": "expired"})


def _end(services: Services, job: Job, state: State, outcome: dict[str, Any], **extra: Any) -> str:
    now = services.clock()
    answer = services.store.record_outcome(job, state, outcome, now, now + REPUBLISH_S, **extra)
    if answer == "recorded":
        reach(Step.OUTCOME_RECORDED)
        publish(services, job)
        reach(Step.OUTCOME_PUBLISHED)
        log.info("job.ended", extra={"task_id": job.task_id, "job_id": job.job_id, "state": state})
    return answer


def publish(services: Services, job: Job) -> None:
    """Publish the continuation of a job that has ended. If the broker is away, a later check does it."""
    try:
        unpark(services.app, job.continuation, job.endpoint, job.task_id, job.attempt)
    except (OperationalError, ConnectionError, TimeoutError) as error:
        log.warning("finish.not_published", extra={"task_id": job.task_id, "error": str(error)})


class Finish(Task):
    """Marks the delivery when Celery has stored the result and sent what follows."""

    abstract = True
    resultrepr_maxsize = 0
    """Celery logs and sends with its events what a task returned: a job's output may be a person's picture or prompt."""

    def after_return(self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        job = getattr(self.request, "runpod_job", None)
        if job is not None and status in (states.SUCCESS, states.FAILURE):
            reach(Step.FINISH_STORED)
            mark_delivered(services(self.app), job)
            reach(Step.FINISH_DELIVERED)


def mark_delivered(services: Services, job: Job) -> None:
    """Leave the tombstone. If this is lost, the next copy of `finish` finds the stored result and does it."""
    timings = {name: repr(value) for name, value in timings_of(job).items()}
    above = (job.root_id, *job.group_ids)
    services.store.mark_delivered(job.endpoint, job.task_id, above, services.clock(), timings)


def timings_of(job: Job) -> dict[str, float]:
    """RunPod's delay and execution time of an ended job, in seconds, where RunPod gave them."""
    outcome = job.outcome or {}
    return {name: outcome[name] for name in ("delay_s", "execution_s") if outcome.get(name) is not None}


@shared_task(bind=True, name=FINISH, base=Finish, throws=(RunPodError,))
@nothing_but_verdicts
def finish(self: Any, endpoint: str, task_id: str, attempt: int) -> Any:
    """End the caller's task with what the store says of this attempt."""
    deps = services(self.app)
    now = deps.clock()
    reach(Step.FINISH_RECEIVED)
    lease_until = now + deps.settings.claim_lease_s
    word, claims = deps.store.claim_finish(endpoint, task_id, attempt, str(uuid.uuid4()), now, lease_until)
    found = deps.store.jobs(endpoint, [task_id]) if word == "yours" else []
    if not found:
        raise Ignore
    job = found[0]
    reach(Step.FINISH_CLAIMED)
    if claims > 1 and not job.ignore_result and _stored_success(self, deps, job):
        raise Ignore
    outcome = job.outcome or {}
    if job.state is State.CANCELLED:
        _end_revoked(self, deps, job, str(outcome.get("reason", "revoked")))
        raise Ignore
    self.request.runpod_job = job
    if claims > MOST_CLAIMS:
        problem = f"the outcome was fetched, but handing it over failed {claims - 1} times"
        raise JobUndeliverable(problem, job.name, task_id, job.job_id)
    if not outcome.get("error"):
        return outcome.get("output")
    error = decode(outcome["error"])
    if job.options.on_error == "return":
        return {"error": {"type": type(error).__name__, "message": str(error), "job_id": job.job_id}}
    raise error


def _stored_success(task: Any, deps: Services, job: Job) -> bool:
    """On a repeat: SUCCESS is stored after links and chain were sent, so only the chord may be left to tell."""
    meta = task.backend.get_task_meta(job.task_id)
    if meta["status"] != states.SUCCESS:
        return False
    if task.request.chord:
        task.backend.on_chord_part_return(task.request, states.SUCCESS, meta["result"])
    mark_delivered(deps, job)
    return True


def _end_revoked(task: Any, deps: Services, job: Job, reason: str) -> None:
    """State REVOKED for the task and its chain, the chord failed, the errbacks called: all in one call."""
    task.backend.mark_as_failure(
        job.task_id,
        TaskRevokedError(reason),
        request=task.request,
        store_result=not job.ignore_result,
        state=states.REVOKED,
    )
    reach(Step.FINISH_STORED)
    mark_delivered(deps, job)
    task.send_event("task-revoked", terminated=False, signum=None, expired=reason == "expired")
    # For Flower: it would go on showing IN_QUEUE, because REVOKED ranks below every state that is not Celery's own.
    task.send_event("task-cancelled", name=f"{RUN}[{job.name}]", reason=reason)
    reach(Step.FINISH_DELIVERED)
