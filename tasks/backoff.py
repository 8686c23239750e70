"""[7 of 8] When to look at a job again: arithmetic only, with every time an argument.

Next: ``delivery.py``, the one way to a job's end.
"""

from __future__ import annotations

from celery_runpod.options import Backoff

DEFAULT = Backoff()
WITH_WEBHOOK = Backoff(first_s=10.0, factor=1.5, cap_s=120.0, jitter=0.1)
"""Slower, because the webhook brings the news and a check only makes up for one that was lost."""

LAST_LOOK_S = 1.0
"""A look planned so shortly before a job's last look would find little that the last look does not."""
SYNC_CAP_S, CAP_S = 15.0, 900.0
# docs.runpod.io/serverless/endpoints/job-states: results of /runsync are kept for one minute, of /run for 30


def backoff_for(given: Backoff | None, *, webhook: bool, sync: bool) -> Backoff:
    """The job's own backoff, else the default for its kind; never so slow that RunPod forgets a result meanwhile."""
    chosen = given or (WITH_WEBHOOK if webhook else DEFAULT)
    most = SYNC_CAP_S if sync else CAP_S
    if chosen.cap_s > most:
        return Backoff(min(chosen.first_s, most), chosen.factor, most, chosen.jitter)
    return chosen


def delay_s(checks: int, backoff: Backoff, spread: float) -> float:
    """Seconds until the next look after `checks` looks. `spread` is a random fraction from 0 to 1."""
    # The exponent is bounded: a job looked at for days would overflow a float.
    grown = backoff.first_s * backoff.factor ** min(checks, 64)
    return min(grown, backoff.cap_s) * (1 + backoff.jitter * (2 * spread - 1))


def look_before(at: float, verdict_at: float) -> float:
    """When to look at a job at RunPod: as planned, or when our own verdict on it is due. No look comes just before that
    one."""
    return verdict_at if at > verdict_at - LAST_LOOK_S else at


def next_look(at: float, *limits: float | None) -> float:
    """The earliest of a planned look and the deadlines that must be seen on time."""
    return min([at, *(limit for limit in limits if limit is not None)])
