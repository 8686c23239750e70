"""[8 of 8] The one way to a job's end: outcome recorded, `finish` run under the caller's id, here or by a message.

`finish` returns the output or raises the typed error, so that Celery itself stores the result and runs the rest of
the chain, chord and links. One copy of it delivers at a time: `claim_finish` holds it for longer than Celery's own
chord claim. A later check delivers what was not delivered in time (``outstanding.py``).

Next: `celery_runpod/results.py`, where the caller reads the result.
"""

from __future__ import annotations

import logging
import uuid
from dataclasses import replace
from typing import Any

from celery import shared_task, states
from celery.exceptions import Ignore, TaskRevokedError

from celery_runpod._call_rules import returned_error
from celery_runpod._protocol import FINISH
from celery_runpod._publish.confirms import NOT_PUBLISHED
from celery_runpod._publish.job_ends import End
from celery_runpod._store.record import JobRecord
from celery_runpod._store.states import State
from celery_runpod.api import Job
from celery_runpod.errors import (
    ApiError,
    InvalidInput,
    JobCancelled,
    JobError,
    JobFailed,
    JobUndeliverable,
    OutputMissing,
    RunPodError,
    decode,
    encode,
)
from celery_runpod.options import Backoff
from tasks.chord_body import body_has_run, end_chord
from tasks.crash_points import Step, reach
from tasks.job_ended import end_of, tell_own_worker
from tasks.job_events import show_end, show_revoked
from tasks.parking import unpark
from tasks.publish_check import admit_waiting, plan_check
from tasks.purge import purge_of
from tasks.put_back import CallersTask, nothing_but_verdicts
from tasks.schedule import backoff_s
from tasks.services import Services, apart, services_of
from tasks.streaming import whole_output
from tasks.undeliverable import MOST_PUBLISHES, end_alone

log = logging.getLogger(__name__)

UNDELIVERED_S = 30.0
"""If an outcome was not delivered by then, a check delivers it."""
UNPUBLISHED_S = 2.0
RETRY_BACKOFF = Backoff(first=1.0, factor=2.0, cap=60.0, jitter=0.1)
MOST_CLAIMS = 10
"""After this many unfinished claims assume that the output kills the worker, and deliver JobUndeliverable instead. After
twice as many, errbacks and chord are skipped too."""


def end_by_answer(services: Services, job: JobRecord, answer: Job) -> str:
    """Record how RunPod ended an attempt and deliver that, or let the job wait for its next attempt."""
    if answer.state == State.CANCELLED and (purged := purge_of(services, job)):
        return end_here(services, job, purged)
    failure = answer.failure(job.name, job.task_id)
    if failure is not None and _try_again(services, job, answer):
        return "waiting"
    answer, lost = whole_output(services, job, answer)
    state = State(answer.state)
    if lost is not None:
        state, failure = State.ENDED_HERE, lost
    elif answer.without_output and not job.options.allow_empty_output:
        # Our own verdict: it frees the idempotency key and keeps the input for a retry by hand.
        state, failure = State.ENDED_HERE, OutputMissing(OutputMissing.WHY, job.name, job.task_id, answer.id)
    outcome = {
        "output": answer.output if failure is None else None,
        "error": None if failure is None else encode(failure),
        "delay_s": answer.delay_s,
        "execution_s": answer.execution_s,
    }
    # A job that was cancelled or timed out says nothing about the next one.
    length_s = answer.execution_s if answer.state in (State.COMPLETED, State.FAILED) else None
    return _end(services, job, state, outcome, job_id=answer.id, length_s=length_s)


def _try_again(services: Services, job: JobRecord, answer: Job) -> bool:
    """Let a failed job wait for its next attempt, if it has one. That is a new submit, not RunPod's /retry, which keeps
    the job id: late news of the failed attempt would count for the next one."""
    retries, start_timeout_s = job.options.retries or 0, job.options.start_timeout
    at = services.clock() + backoff_s(job.retried, RETRY_BACKOFF, services.spread())
    if not retries or answer.state not in (State.FAILED, State.TIMED_OUT) or at >= job.end_by:
        return False
    start_by = None if start_timeout_s is None else at + start_timeout_s
    if services.store.retry_later(job, State(answer.state), retries, at, start_by, answer.id) != "waiting":
        return False
    reach(Step.OUTCOME_RETRIED)
    log.warning("job.retried", extra={"task_id": job.task_id, "job_id": answer.id, "state": answer.state})
    services.show(job, State.WAITING, {"reason": "RETRY"})
    admit_waiting(services, job.endpoint)
    plan_check(services, job.endpoint, at)
    return True


def end_here(services: Services, job: JobRecord, error: RunPodError, *, cancel: bool = False, **more: Any) -> str:
    """Record our own verdict. With `cancel`, the job is also cancelled at RunPod. If it was decided on the job `as_read`,
    or because it was due at a time (`decided_at`), it is "refused" where there is other news of the job meanwhile."""
    return _end(services, job, State.ENDED_HERE, {"error": encode(error)}, cancel=cancel, **more)


def end_revoked(services: Services, job: JobRecord, reason: str) -> str:
    """End a job that was not submitted as REVOKED. `reason`: "revoked", or "expired" as in Celery after `expires`."""
    return _end(services, job, State.CANCELLED, {"reason": reason})


def _end(services: Services, job: JobRecord, state: State, outcome: dict[str, Any], **extra: Any) -> str:
    now = services.clock()
    answer, job = services.store.end(job, state, outcome, now, now + UNDELIVERED_S, **extra)
    if answer in ("recorded", "recorded_others_wait"):
        reach(Step.OUTCOME_RECORDED)
        if not services.takes_outcome(job):
            publish(services, job)
        reach(Step.OUTCOME_PASSED_ON)
        log.info("job.ended", extra={"task_id": job.task_id, "job_id": job.job_id, "state": state})
        if answer == "recorded_others_wait":
            admit_waiting(services, job.endpoint)
    return answer


def publish(services: Services, job: JobRecord) -> None:
    """Publish the continuation of a job that has ended; for a shared job, those of all calls that wait for it. If the
    broker is away, a later check does it."""
    if job.shares:
        waiters, handed = services.store.jobs(job.endpoint, services.store.shared.waiters(job)), 0
        for waiter in waiters:
            with apart(task_id=waiter.task_id):
                hand_over(services, waiter)
                handed += 1
        if handed == len(waiters):
            services.store.shared.close(job)
        return
    try:
        unpark(services.app, job.continuation, job.endpoint, job.task_id, job.attempt)
    except NOT_PUBLISHED as error:
        log.warning("finish.not_published", extra={"task_id": job.task_id, "error": str(error)})
    except Exception as error:
        # What follows this task cannot be sent. Other jobs are not affected.
        log.exception("finish.not_published", extra={"task_id": job.task_id})
        if services.store.published(job.endpoint, job.task_id) >= MOST_PUBLISHES:
            undeliverable = end_alone(services, job, f"{type(error).__name__}: {error}"[:300])
            close(services, job, End(states.FAILURE, error=undeliverable), MOST_CLAIMS + 1)
        else:
            # A short pause: this error will probably come again, unlike that of a broker that is away.
            services.store.deliver_at(job.endpoint, job.task_id, services.clock() + UNPUBLISHED_S)


def hand_over(services: Services, waiter: JobRecord) -> bool:
    """End a call in the same way as the job that it shares; False if that job is open, or no longer known."""
    verdict = services.store.shared.verdict(waiter.endpoint, waiter.joined)
    if verdict is None:
        return False
    outcome = dict(verdict.outcome)
    if outcome.get("error"):
        error = decode(outcome["error"])
        if isinstance(error, ApiError | JobError | InvalidInput):
            outcome["error"] = encode(replace(error, task_id=waiter.task_id))
    _end(services, waiter, verdict.state, outcome, job_id=verdict.job_id)
    return True


class Finish(CallersTask):
    """Marks the job as delivered once Celery has stored the result and sent what follows."""

    abstract = True
    send_events = False
    """`run` was received, and Flower knows the task; `show_end` sends the end."""
    resultrepr_maxsize = 0
    """Keeps the output out of what Celery sends to the worker's main process: it may be private."""

    def after_return(self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        job = getattr(self.request, "runpod_job", None)
        if job is not None and status in (states.SUCCESS, states.FAILURE):
            reach(Step.FINISH_STORED)
            close(services_of(self.app), job, end_of(status, retval), self.request.runpod_claims)
            show_end(self, job, retval if status == states.FAILURE else None)
            reach(Step.FINISH_DELIVERED)
        elif status == states.FAILURE:
            show_end(self, None, retval)


def close(services: Services, job: JobRecord, end: End, claims: int) -> None:
    """Mark a job as delivered once its end is published to the caller's own worker, if that asked for it. Where that
    fails, a later `finish` tries again, as often as MOST_CLAIMS says."""
    if tell_own_worker(services.app, job, end) or claims > MOST_CLAIMS:
        mark_delivered(services, job)


def mark_delivered(services: Services, job: JobRecord) -> None:
    """Replace the record by a tombstone. If a process dies before, the next `finish` finds the stored result and does
    it."""
    kept = {name: repr(value) for name, value in timings_of(job).items()}
    if job.options.stream:
        kept["stream"] = str(services.store.streams.ended(job))
    above = (job.root_id, *job.group_ids)
    now = services.clock()
    leave_shared(services, job)
    keep_failed_s = services.settings.keep_failed(job.name)
    services.store.mark_delivered(job.endpoint, job.task_id, above, now, kept, keep_failed_s, job.job_id)


def leave_shared(services: Services, job: JobRecord) -> None:
    """If this call shares a job, stop waiting for it. When the last call leaves, the job is cancelled, and a check sends
    the cancel to RunPod. Repeating it changes nothing."""
    now = services.clock()
    if job.joined and services.store.shared.leave(job, {"reason": "revoked"}, now, now + UNDELIVERED_S) == "last":
        for shared in services.store.jobs(job.endpoint, [job.joined]):
            publish(services, shared)
        admit_waiting(services, job.endpoint)
        plan_check(services, job.endpoint, now)


def timings_of(job: JobRecord) -> dict[str, float]:
    """RunPod's delay and execution time of an ended job, in seconds; each only if RunPod gave it."""
    outcome = job.outcome or {}
    return {name: outcome[name] for name in ("delay_s", "execution_s") if outcome.get(name) is not None}


@shared_task(bind=True, name=FINISH, base=Finish, throws=(RunPodError,))
@nothing_but_verdicts
def finish(self: Any, endpoint: str, task_id: str, attempt: int) -> Any:
    """End the caller's task with the outcome in the store."""
    services = services_of(self.app)
    now = services.clock()
    reach(Step.FINISH_RECEIVED)
    # Raises while the backend is away, before a claim is counted: see MOST_CLAIMS.
    stored = self.backend.get_task_meta(task_id)
    lease_until = now + services.settings.claim_lease_s
    _, claims, job = services.store.claim_finish(endpoint, task_id, attempt, str(uuid.uuid4()), now, lease_until)
    if job is None:
        raise Ignore
    reach(Step.FINISH_CLAIMED)
    if job.ignore_result:
        stored = {"status": states.PENDING}
    undeliverable = JobUndeliverable(
        f"the outcome was fetched, but handing it over failed {claims - 1} times", job.name, task_id, job.job_id
    )
    if claims > 2 * MOST_CLAIMS:
        # Errbacks or chord fail each time. If the task's own end fails too, give up.
        self.request.update(errbacks=None, chord=None)
        if stored["status"] in states.READY_STATES:
            close(services, job, end_of(stored["status"], stored["result"]), claims)
            raise Ignore
        if claims > 3 * MOST_CLAIMS:
            close(services, job, End(states.FAILURE, error=undeliverable), claims)
            raise Ignore
    if claims > 1 and stored["status"] == states.SUCCESS:
        # The result is stored after links and chain were sent, so only the chord may be missing.
        if self.request.chord and claims > MOST_CLAIMS:
            end_chord(self, undeliverable)
        elif self.request.chord and not body_has_run(self):
            self.backend.on_chord_part_return(self.request, states.SUCCESS, stored["result"])
        close(services, job, end_of(states.SUCCESS, stored["result"]), claims)
        show_end(self, job, None)
        raise Ignore
    outcome = job.outcome or {}
    # The user's own workers may have stored REVOKED before a RunPod worker wrote a state. The caller has seen it, so it
    # is final.
    if job.state is State.CANCELLED or stored["status"] == states.REVOKED:
        _end_revoked(self, services, job, str(outcome.get("reason", "revoked")), claims)
        raise Ignore
    self.request.update(runpod_job=job, runpod_claims=claims)
    if claims > MOST_CLAIMS:
        raise undeliverable
    if not outcome.get("error"):
        return outcome.get("output")
    error = decode(outcome["error"])
    if job.options.on_error == "return":
        return returned_error(error, job.job_id)
    if isinstance(error, JobFailed) and error.traceback:
        # Shown after this process's traceback in the log, in Flower and in the result.
        error.add_note(error.traceback)
    raise error


def _end_revoked(task: Any, services: Services, job: JobRecord, reason: str, claims: int) -> None:
    """Store REVOKED for the task and its chain, fail the chord and call the errbacks."""
    task.backend.mark_as_failure(
        job.task_id,
        TaskRevokedError(reason),
        request=task.request,
        store_result=not job.ignore_result,
        # An errback that raises each time must not keep the task from its end.
        call_errbacks=claims <= MOST_CLAIMS,
        state=states.REVOKED,
    )
    reach(Step.FINISH_STORED)
    cancelled = JobCancelled(reason, job.name, job.task_id, job.job_id)
    close(services, job, End(states.REVOKED, error=cancelled), claims)
    show_revoked(task, job, reason)
    reach(Step.FINISH_DELIVERED)
