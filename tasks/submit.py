"""[5 of 8] POST /run, and what each answer means: never pay twice.

    not sent (no budget, DNS, refused, connect timeout, TLS), 429   RunPod has nothing     the job waits for a new attempt
    another 4xx, payload over the limit, no key                     refused                a typed error at the caller
    200 with an id                                                  accepted               IN_QUEUE
    5xx, cut, read timeout, unreadable, no id, killed in between    unknown                waits for its window to close

RunPod's POST /run has no idempotency key. So the intent is stored first, only the holder of a numbered attempt may POST
it, and what RunPod may have accepted is never sent again unless `RUNPOD_UNCONFIRMED_SUBMIT=resubmit`. The endpoint's gate
(``gate.py``) decides whether an attempt may begin now.

Next: ``check.py``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from redis.exceptions import RedisError

from celery_runpod._protocol import DAY_S
from celery_runpod._store.record import JobRecord
from celery_runpod._store.states import State
from celery_runpod._store.submits import Post, Signs
from celery_runpod._webhooks.signed_urls import sign_url
from celery_runpod.api import Job, Policy
from celery_runpod.api._durations import MAX_S
from celery_runpod.errors import (
    ApiError,
    BadAnswer,
    ConfigurationError,
    InvalidInput,
    RateLimited,
    RunPodError,
    SubmissionUnconfirmed,
    Unauthorized,
    Unavailable,
)
from tasks.cancel import cancelled_by, is_cancelled
from tasks.crash_points import Step, reach
from tasks.delivery import end_by_answer, end_here, end_revoked
from tasks.gate import claim_attempt, plan_post, post_over, unsafe
from tasks.idempotency import let_all_expire
from tasks.order_of_looks import Known
from tasks.publish_check import admit_waiting
from tasks.schedule import next_look
from tasks.services import AWAY, Services
from tasks.streaming import may_be_chunks
from tasks.submit_round import SubmitRound

log = logging.getLogger(__name__)

UNAUTHORIZED_WAIT_S, LEAST_LEFT_S = 60.0, 0.1
KNOWN_HERE_S = 900.0
"""So long after its window a process that alone knows a job's id goes on trying to have it cancelled."""


def submit(services: Services, job: JobRecord, lease: float, together: SubmitRound | None = None) -> None:
    """Submit a WAITING job now, or plan when to try again. `lease` is its score among the due jobs; `together`: the round
    of submits that it belongs to, if it is not the only one."""
    together = together or SubmitRound(services, job.endpoint, [job])
    now = services.clock()
    expires_at = _expires_at(services, job)
    if expires_at is not None and now >= expires_at:
        if not job.shares:
            end_revoked(services, job, "expired")
            return
        let_all_expire(services, job, now)
        # If all calls have left, the job is cancelled; another may have joined meanwhile.
        services.store.observe(job, lease, now + 1, reason=job.reason)
        return
    own, others = cancelled_by(job)
    signs = together.signs()
    if is_cancelled(signs.notes, own, others):
        end_revoked(services, job, "revoked")  # the cancel task may still be reading a large group
        return
    # The first time at which it could have been submitted: its countdown or eta, else its call.
    earliest = job.not_before if job.not_before > job.accepted_at else job.begun_at
    if signs.incarnation.fence and earliest <= signs.incarnation.fence and not services.settings.may_resubmit:
        problem = "the store was restored to an older state, and whether the call was submitted before is not known"
        end_here(services, job, SubmissionUnconfirmed(f"{problem}; it was not sent", job.name, job.task_id))
        return
    wait_until, reason = _not_yet(job, signs, now)
    if wait_until is not None:
        due = next_look(wait_until, job.start_by, job.end_by, expires_at)
        if services.store.observe(job, lease, due, reason=reason) == "changed":
            services.show(job, State.WAITING, {"reason": reason})
        return
    post = plan_post(services, job, now)
    held = "ON_HOLD" if signs.on_hold else "PAUSED" if signs.paused_until > now else ""
    if not held and not together.take(post.operation):
        held = "BUDGET"
    known = together.known()  # before the POST: the store may go away during it
    claimed = claim_attempt(services, job, post, next_look(job.end_by, job.start_by, expires_at), held, together)
    if claimed is None:
        return
    job, began = claimed, services.clock()
    reach(Step.SUBMIT_INTENT_STORED)
    try:
        answer = _post(services, job)
    except RunPodError as error:
        _refused(services, job, error, partial(post_over, services, post, error=error))
        return
    except BaseException:
        post_over(services, post, "")
        raise
    took_s = services.clock() - began
    reach(Step.SUBMIT_POSTED)
    if answer.final and not may_be_chunks(job, answer):
        _insist(services, job, lambda: end_by_answer(services, job, answer), answer.id)
        post_over(services, post, "works", took_s)
    else:
        accept_answer(services, job, answer.id, post, took_s, known)
    reach(Step.SUBMIT_RECORDED)


def accept_answer(services: Services, job: JobRecord, job_id: str, post: Post, took_s: float, known: Known) -> None:
    """RunPod has the job: record its id, plan the first look, and end the POST at the gate, in one round trip."""
    now, placed, gate = services.clock(), known.by_place(services, job), ""
    due = next_look(known.next_look_at(services, job, 0), job.start_by, job.end_by)

    def record() -> str:
        nonlocal gate
        recorded, gate = services.store.submits.answered(job, job_id, due, now, post, took_s, placed)
        return recorded

    recorded = _insist(services, job, record, job_id)
    if gate == "opened":
        admit_waiting(services, job.endpoint)
    if recorded == "accepted":
        services.show(replace(job, job_id=job_id), State.IN_QUEUE, {})
    else:
        log.warning("submit.late", extra={"task_id": job.task_id, "job_id": job_id, "answer": recorded})


def _insist(services: Services, job: JobRecord, record: Callable[[], str], job_id: str) -> str:
    """Record RunPod's answer, and retry while the store is away: the job runs, and only this process knows its id. After
    the window it counts as unconfirmed, and is cancelled as soon as the store is back."""
    fields, window_ends = {"task_id": job.task_id, "job_id": job_id}, job.window_ends or 0.0

    def away(error: Exception) -> None:
        log.error("submit.store_away", extra={**fields, "error": str(error)})

    try:
        return services.insist(record, away, until=window_ends)
    except (RedisError, OSError) as error:
        log.critical("submit.not_recorded", extra={**fields, "error": str(error)})
        if not isinstance(error, (OSError, *AWAY)):
            raise
        return services.insist(record, lambda _: None, until=window_ends + KNOWN_HERE_S)


def close_window(services: Services, job: JobRecord) -> None:
    """Resubmit or end a job whose submit got no answer within its window."""
    now = services.clock()
    if services.settings.may_resubmit:
        log.warning("submit.resubmit", extra={"task_id": job.task_id, "attempt": job.attempt})
        services.store.submits.not_submitted(job, now, "RESUBMIT")
    else:
        window = services.settings.window_s(services.has_webhook(job))
        problem = f"submit {job.attempt} got no answer, and nothing showed within {window:g} s whether RunPod took it"
        end_here(services, job, SubmissionUnconfirmed(problem, job.name, job.task_id), cancel=True, as_read=True)


def _expires_at(services: Services, job: JobRecord) -> float | None:
    """When the job expires. `expires` is for the first submit, so a retry has none. A shared job expires with the last
    call that waits for it."""
    if job.retried:
        return None
    return services.store.shared.waiters_expire_at(job) if job.shares else job.expires_at


def _not_yet(job: JobRecord, signs: Signs, now: float) -> tuple[float | None, str]:
    """Until when, and why, the job must wait before it asks the gate; (None, "") if it need not wait."""
    if why := unsafe(signs):
        return now + 1, why
    if now < job.not_before:
        return job.not_before, "COUNTDOWN"
    return None, ""


def _post(services: Services, job: JobRecord) -> Job:
    """The POST itself, under its total deadline. Not after the window: another attempt may be at RunPod by then."""
    settings, options, window_ends = services.settings, job.options, job.window_ends or 0.0
    profile, client = settings.profiles.get(job.name), services.client(job.api_key_name)
    extra: dict[str, Any] = {"policy": _policy(job), "s3_config": profile and profile.s3_config}
    if services.has_webhook(job) and settings.webhook_url and settings.webhook_secret:
        secret, ends_at = settings.webhook_secret.get_secret_value(), max(job.end_by, window_ends)
        attempt = (job.endpoint, job.task_id, job.attempt)
        extra["webhook"] = sign_url(settings.webhook_url, secret, settings.namespace, *attempt, ends_at)
    if (left_s := window_ends - services.clock()) < LEAST_LEFT_S:
        raise Unavailable("this process stood still until its window was over", "run", job.name, sent=False)
    if options.sync:
        wait_s = settings.sync_wait_s
        return client.run_sync(job.endpoint, job.input, wait=wait_s, timeout=min(wait_s + 10, left_s), **extra)
    return client.run(job.endpoint, job.input, timeout=min(settings.submit_timeout_s, left_s), **extra)


def _policy(job: JobRecord) -> Policy | None:
    options = job.options
    ttl_s = options.ttl
    if ttl_s is None and job.end_by - job.accepted_at > DAY_S:
        # By default RunPod deletes a job after 24 h in any state: a longer deadline needs a longer time to live.
        ttl_s = min(job.end_by - job.accepted_at, MAX_S)
    if options.execution_timeout is None and ttl_s is None and options.low_priority is None:
        return None
    return Policy(execution_timeout=options.execution_timeout, ttl=ttl_s, low_priority=options.low_priority)


def _refused(services: Services, job: JobRecord, error: RunPodError, over: Callable[[str], float]) -> None:
    """What an error of the POST means: see the table at the top. `over` gets the state of the API, as `post_over`."""
    now = services.clock()
    fields = {"task_id": job.task_id, "endpoint": job.name, "attempt": job.attempt, "error": str(error)}
    if isinstance(error, RateLimited) or (isinstance(error, Unavailable) and not error.sent):
        until = over("trouble")
        reason = "RATE_LIMITED" if isinstance(error, RateLimited) else "API_DOWN"
        log.warning("submit.not_sent", extra=fields)
        _wait(services, job, until + services.spread(), reason)
    elif isinstance(error, Unavailable | BadAnswer):
        over("trouble")
        log.warning("submit.unknown", extra=fields)
        window_ends = job.window_ends or now
        if services.store.observe(job, window_ends, window_ends, reason="UNCONFIRMED") == "changed":
            services.show(job, State.SUBMITTING, {"reason": "UNCONFIRMED"})
    elif isinstance(error, Unauthorized | ConfigurationError) and services.settings.on_unauthorized == "wait":
        log.error("submit.unauthorized", extra=fields)
        _wait(services, job, now + UNAUTHORIZED_WAIT_S, "UNAUTHORIZED")
        over("works" if isinstance(error, ApiError) else "")
    else:
        log.error("submit.rejected", extra=fields)
        if isinstance(error, ApiError | InvalidInput):
            error = replace(error, endpoint=job.name, task_id=job.task_id)
        end_here(services, job, error)
        over("works" if isinstance(error, ApiError) else "")


def _wait(services: Services, job: JobRecord, until: float, reason: str) -> None:
    due = next_look(until, job.start_by, job.end_by, _expires_at(services, job))
    if services.store.submits.not_submitted(job, due, reason) == "waiting":
        services.show(job, State.WAITING, {"reason": reason})
