"""[7 of 8] When to look at a job again: arithmetic only, with every time an argument.

Next: ``delivery.py``, the one way to a job's end.
"""

from __future__ import annotations

from celery_runpod.options import Backoff

DEFAULT = Backoff()
WITH_WEBHOOK = Backoff(first_s=10.0, factor=1.5, cap_s=120.0, jitter=0.1)
"""Slower: the webhook makes the job due, and a check is needed only if the webhook is lost."""

LAST_LOOK_S = 1.0
"""No look is planned within this time before a job's last look."""
SYNC_CAP_S, CAP_S = 15.0, 900.0
# docs.runpod.io/serverless/endpoints/job-states: results of /runsync are kept for one minute, of /run for 30


def backoff_for(given: Backoff | None, *, webhook: bool, sync: bool) -> Backoff:
    """The job's own backoff, else the default for its kind; capped, so that RunPod still has the result at the next
    look."""
    chosen = given or (WITH_WEBHOOK if webhook else DEFAULT)
    most = SYNC_CAP_S if sync else CAP_S
    if chosen.cap_s > most:
        return Backoff(min(chosen.first_s, most), chosen.factor, most, chosen.jitter)
    return chosen


def delay_s(checks: int, backoff: Backoff, spread: float) -> float:
    """Seconds until the next look after `checks` looks. `spread` is a random fraction from 0 to 1."""
    # The exponent is bounded, because after days of looks the power would overflow a float.
    grown = backoff.first_s * backoff.factor ** min(checks, 64)
    return min(grown, backoff.cap_s) * (1 + backoff.jitter * (2 * spread - 1))


def look_before(at: float, verdict_at: float) -> float:
    """When to look at a job at RunPod: as planned, but at `verdict_at` if the planned look would be just before it or
    later."""
    return verdict_at if at > verdict_at - LAST_LOOK_S else at


def next_look(at: float, *limits: float | None) -> float:
    """The earliest of a planned look and the given deadlines."""
    return min([at, *(limit for limit in limits if limit is not None)])
