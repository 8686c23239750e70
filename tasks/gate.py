"""The gate of an endpoint: which submit may begin now, so that trouble with RunPod's API loses few of them.

When trouble begins, the POSTs under way are lost. No other POST begins while the oldest one is late. After a pause
/health must answer, then one job (the probe) tries, then the others follow. The hold is read here too
(docs/decisions/0014).

Not here: the gate's own rules (`celery_runpod/_store/gate.lua`), what RunPod's answer means for the job (``submit.py``).
"""

from __future__ import annotations

import logging
import uuid
from dataclasses import replace
from typing import Any

from celery_runpod._store.record import JobRecord
from celery_runpod._store.states import State
from celery_runpod._store.submits import Claim, Post, Signs
from celery_runpod.errors import BadAnswer, RateLimited, RunPodError, Unavailable
from tasks.publish_check import admit_waiting
from tasks.services import Services
from tasks.submit_round import SubmitRound

log = logging.getLogger(__name__)

HEALTH_S = 2.0
"""If /health takes longer, the API is still in trouble."""
MARGIN_S = 5.0
"""A POST that has not ended this long after its own deadline was lost with its process."""


def unsafe(signs: Signs) -> str:
    """Why a submit could be made a second time by a store that has lost something; "" if it could not."""
    if not signs.incarnation.settled:
        return "STORE_RESTARTED"
    return "" if signs.replicated else "NO_REPLICA"


def plan_post(services: Services, job: JobRecord, now: float) -> Post:
    """The POST that would be made for this job."""
    sync = bool(job.options.sync)
    settings = services.settings
    expected_s = settings.sync_wait_s if sync else 0.0
    post_s = settings.sync_wait_s + 10 if sync else settings.submit_timeout_s
    given_up = now + HEALTH_S + post_s + MARGIN_S
    return Post(job.endpoint, "runsync" if sync else "run", str(uuid.uuid4()), expected_s, given_up)


def claim_attempt(
    services: Services, job: JobRecord, post: Post, decide_at: float, held: str, together: SubmitRound
) -> JobRecord | None:
    """The attempt that this process alone may POST, and that the store's replicas have; None if the job must wait. After
    a pause /health must answer before the probe is claimed. With `held` ("ON_HOLD", "PAUSED", "BUDGET") the job waits in
    any case, at most until `decide_at`."""
    now = services.clock()
    limit = services.settings.max_in_flight(job.endpoint)
    window_s = services.settings.window_s(services.has_webhook(job))
    more: dict[str, Any] = {"decide_at": decide_at, "max_in_flight": limit, "probe_until": post.given_up}
    window_ends = now + window_s
    claim = _claimed(services, job, post, now, window_ends, held=held, **more)
    if claim.word == "health":
        healthy = _api_answers(services, job)
        if not healthy:
            post_over(services, post, "trouble")
        now = services.clock()
        window_ends = now + window_s
        # If not healthy, the job now waits for the next probe.
        claim = _claimed(services, job, post, now, window_ends, healthy=healthy, **more)
        if healthy and claim.word != "go":
            post_over(services, post, "")
    if claim.word == "wait" and claim.changed:
        services.show(job, State.WAITING, {"reason": claim.reason})
    if claim.word != "go":
        return None
    claimed = replace(job, attempt=claim.attempt, state=State.SUBMITTING, window_ends=window_ends)
    together.before[job.task_id] = claim.before
    if together.replicas.have(post):
        return claimed
    _take_back(services, claimed, post)
    return None


def _claimed(services: Services, job: JobRecord, post: Post, *times: float, **more: Any) -> Claim:
    about = {"task_id": job.task_id, "shares": job.shares, "token": post.token}
    log.debug("submit.claiming", extra=about)
    claim = services.store.submits.claim_submit(job, post, *times, **more)
    log.debug("submit.claimed", extra=about | {"attempt": claim.attempt, "word": claim.word})
    return claim


def _take_back(services: Services, job: JobRecord, post: Post) -> None:
    """A claimed attempt is not made: nothing was sent. Insist while the store is away, as it is while it fails over:
    otherwise the attempt would count as unconfirmed."""

    def give_back() -> None:
        if services.store.submits.not_submitted(job, services.clock() + 1, "NO_REPLICA") == "waiting":
            services.show(job, State.WAITING, {"reason": "NO_REPLICA"})
        post_over(services, post, "")

    def away(error: Exception) -> None:
        log.error("submit.store_away", extra={"task_id": job.task_id, "error": str(error)})

    services.insist(give_back, away, until=job.window_ends or 0.0)


def _api_answers(services: Services, job: JobRecord) -> bool:
    """Whether RunPod answers at all; an error like 401 counts as an answer, and is handled at the POST."""
    timeout_s = min(HEALTH_S, services.settings.poll_timeout_s)
    try:
        services.client(job.api_key_name).health(job.endpoint, timeout=timeout_s)
    except (RateLimited, Unavailable, BadAnswer) as error:
        log.warning("submit.api_down", extra={"endpoint": job.name, "error": str(error)})
        return False
    except RunPodError:
        return True
    return True


def post_over(
    services: Services, post: Post, api_state: str, took_s: float | None = None, error: RunPodError | None = None
) -> float:
    """Record at the gate that a POST is over. Returns until when submits are paused (s since 1970), 0 if they are not.

    Args:
        api_state: "works" (RunPod answered), "trouble", or "" (not known).
        took_s: how long the answer took; None without an accepted job.
    """
    failed = {"error": type(error).__name__, "sent": getattr(error, "sent", True)} if error else {}
    log.debug("submit.post_over", extra={"token": post.token, **failed})
    after = error.retry_after_s if isinstance(error, RateLimited) else None
    gate, until = services.store.submits.end_post(post, services.clock(), api_state, took_s, after, services.spread())
    if gate == "opened":
        admit_waiting(services, post.endpoint)
    return until
