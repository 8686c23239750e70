"""[7 of 8] When to look at a job again: arithmetic only, with every time an argument.

A job with a `backoff` of its own, and one that a webhook will end, is looked at in exponential backoff. So is a job of an
endpoint that has ended few jobs yet. Otherwise the endpoint's latest jobs have taught how long one takes: there is no
look before their 5 % quantile, then one at each further tenth of them, then ever rarer ones.

Next: ``delivery.py``, the one way to a job's end.
"""

from __future__ import annotations

from collections.abc import Iterable

from celery_runpod._store.record import JobRecord
from celery_runpod.options import Backoff

DEFAULT = Backoff()
WITH_WEBHOOK = Backoff(first=10.0, factor=1.5, cap=120.0, jitter=0.1)
"""Slower: the webhook makes the job due, and a check is needed only if the webhook is lost."""
FAILED = Backoff(first=5.0, factor=2.0, cap=300.0, jitter=0.1)
"""For a job after the work on it has raised."""

LAST_LOOK_S = 1.0
"""No look is planned within this time before a job's last look."""
WATCHED_S = 1.0
"""Between two looks at a job that somebody watches."""
SYNC_CAP_S, CAP_S = 15.0, 900.0
# docs.runpod.io/serverless/endpoints/job-states: results of /runsync are kept for one minute, of /run for 30
ENOUGH = 5
"""The learned lengths count from this many on."""
SOONEST_S = 0.5
"""Between two looks by the learned lengths, in seconds, however short the jobs are."""
LEAST_STEP = 0.05
"""No two of these looks are closer than this part of the time that the job has taken."""
LONGEST_S = 30.0
"""The longest pause between two looks by the learned lengths: a start or a very early end is seen so late at most."""
QUEUE_LONGEST_S = 1500.0
"""The same, while the job waits behind others in RunPod's queue. RunPod keeps a result for 1,800 s."""
DEEP, DEEP_LOOKS_A_S = 1000, 10.0
"""Jobs that stand behind so many share about so many looks a second, times the logarithm of their number."""
Queue = tuple[int, float, bool]
NO_QUEUE: Queue = (0, 0.0, False)


class Lengths:
    """What the latest jobs of an endpoint have taught: for how many seconds RunPod worked on each."""

    def __init__(self, known: Iterable[float] = ()) -> None:
        self._known = sorted(known)

    def __bool__(self) -> bool:
        return len(self._known) >= ENOUGH

    def quantile(self, part: float) -> float:
        """The length, in seconds, that this part (0 to 1) of the jobs did not exceed.

        >>> Lengths([1, 2, 3, 4, 5]).quantile(0.5)
        3.0
        """
        place = part * (len(self._known) - 1)
        low, high = int(place), min(int(place) + 1, len(self._known) - 1)
        return float(self._known[low] + (place - low) * (self._known[high] - self._known[low]))

    def pause_s(
        self, taken_s: float | None, ahead: int = 0, ahead_s: float = 0, counted: bool = False, waited_s: float = 0
    ) -> float:
        """Seconds until the next look at a job on which a RunPod worker has worked for `taken_s` seconds; None: it is in
        RunPod's queue, or was a moment ago, where it has waited for `waited_s` seconds, behind so many jobs `ahead` that
        will take `ahead_s` seconds if no more workers come. `counted`: if more come, the look is made earlier."""
        soonest_s = self.quantile(0.05)
        if taken_s is None:
            # It cannot end before that, even if a worker takes it now. RunPod's queue is first in, first out, roughly;
            # more workers may come: if that is not seen, no pause is longer than its wait, unless it stands far behind.
            soonest_s = min(max(soonest_s, SOONEST_S), LONGEST_S)
            if counted or not ahead_s:
                return min(0.9 * ahead_s + soonest_s, QUEUE_LONGEST_S)
            trusted_s = max(waited_s, (ahead - DEEP) / DEEP_LOOKS_A_S)
            return max(soonest_s, min(0.75 * ahead_s + soonest_s, trusted_s, QUEUE_LONGEST_S))
        least_s = max(SOONEST_S, LEAST_STEP * taken_s)
        for tenth in range(10):
            if (at := self.quantile(0.05 + tenth / 10)) >= taken_s + least_s:
                return min(at - taken_s, LONGEST_S)
        return min(least_s + max(0.0, taken_s - self.quantile(0.95)) / 4, LONGEST_S)


def backoff_for(given: Backoff | None, *, webhook: bool, sync: bool) -> Backoff:
    """The job's own backoff, else that of its kind; capped, so that RunPod still has the result at the next look."""
    chosen = given or (WITH_WEBHOOK if webhook else DEFAULT)
    most = SYNC_CAP_S if sync else CAP_S
    return chosen if chosen.cap_s <= most else Backoff(min(chosen.first_s, most), chosen.factor, most, chosen.jitter)


def backoff_s(checks: int, backoff: Backoff, spread: float) -> float:
    """Seconds until the next look after `checks` looks. `spread` is a random fraction from 0 to 1."""
    # The exponent is bounded, because after days of looks the power would overflow a float.
    grown = backoff.first_s * backoff.factor ** min(checks, 64)
    return min(grown, backoff.cap_s) * (1 + backoff.jitter * (2 * spread - 1))


def by_lengths(job: JobRecord, lengths: Lengths, *, webhook: bool) -> bool:
    """Whether the lengths of the endpoint's jobs say when to look at this one."""
    return bool(lengths) and job.options.backoff is None and not webhook and not job.options.sync


def until_next_look_s(
    job: JobRecord, checks: int, now: float, lengths: Lengths, *, webhook: bool, spread: float, queue: Queue = NO_QUEUE
) -> float:
    """Seconds until the next look at a job at RunPod, after so many `checks` of it. `queue`: how many jobs stand before
    it in RunPod's queue, how long they will take (s), and whether RunPod counts those in progress."""
    if by_lengths(job, lengths, webhook=webhook):
        # From the first sight of it in progress; RunPod may put a job into its queue again.
        if job.started_at is not None:
            return lengths.pause_s(max(0.0, now - job.started_at))
        return lengths.pause_s(None, *queue, now - (job.submitted_at or now))
    return backoff_s(checks, backoff_for(job.options.backoff, webhook=webhook, sync=bool(job.options.sync)), spread)


def look_before(at: float, verdict_at: float) -> float:
    """When to look at a job at RunPod: as planned, but at `verdict_at` if the planned look would be just before it or
    later."""
    return verdict_at if at > verdict_at - LAST_LOOK_S else at


def next_look(at: float, *limits: float | None) -> float:
    """The earliest of a planned look and the given deadlines."""
    return min([at, *(limit for limit in limits if limit is not None)])
