"""Which jobs a check asks RunPod about, in which order, and when again.

Last looks come first: those at jobs whose own verdict is due (``own_verdicts.py``). They may use the whole budget; other
looks leave a part of it where verdicts are near, so that they cannot delay one.

Not here: the looks themselves (``check.py``), and how long the pauses between them are (``schedule.py``).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field

from celery_runpod._store.record import JobRecord
from celery_runpod._store.states import AT_RUNPOD, State
from celery_runpod._store.store import Begun
from celery_runpod.api import Job
from celery_runpod.errors import ApiError, BadAnswer, RateLimited, RunPodError, Unavailable
from tasks.budget import PER_WINDOW, SPARED, Calls
from tasks.own_verdicts import kept_s, verdict_at
from tasks.schedule import CAP_S, LAST_LOOK_S, WATCHED_S, Lengths, Queue, by_lengths, until_next_look_s
from tasks.services import Services
from tasks.why_queued import refusal

log = logging.getLogger(__name__)

COUNTED_FROM = 20
"""Looks are planned by the place in RunPod's queue behind so many jobs: for fewer, asking RunPod how many are in progress
costs more than it saves."""
FEWER = "webhooks need far fewer looks (docs/how-to-webhooks.md); see what else asks this endpoint"


@dataclass(frozen=True)
class Looks:
    """`granted`: the jobs to look at, in this order. `others`: not before `again_at` (s since 1970), because looks are
    `paused` or the budget is used up."""

    granted: list[JobRecord]
    others: list[JobRecord]
    again_at: float
    paused: bool


@dataclass(frozen=True)
class Granted:
    """How many looks and submits the budget grants a check, and from when on (s since 1970) it has more, where it refused
    some."""

    looks: int = 0
    submits: int = 0
    looks_from: float = 0.0
    submits_from: float = 0.0


def ask_budget(services: Services, endpoint: str, begun: Begun) -> Granted:
    """Take the looks and submits that are due from the budget. What it refuses stays where it is: it is not read. Some
    looks are left to jobs on which something must be decided soon."""
    ask, none = services.budget.ask, Calls(0, 0.0)
    spare = min(begun.decisions, PER_WINDOW["status"] // SPARED)
    looks = ask(endpoint, "status", begun.looks, spare=spare) if begun.looks else none
    submits = ask(endpoint, "run", begun.submits) if begun.submits else none
    return Granted(looks.granted, submits.granted, looks.more_at, submits.more_at)


def of_this_job_alone(error: RunPodError) -> bool:
    """Whether a look failed by its own job: by a success that is too large or too slow to be read."""
    return isinstance(error, BadAnswer) or (isinstance(error, Unavailable) and error.status == 200)


def operation_in_trouble(error: RunPodError) -> str | None:
    """Which operation of RunPod's API does not serve the looks now, by the error of one: each has a pause of its own."""
    away = isinstance(error, Unavailable) and error.status != 404
    if of_this_job_alone(error) or not (away or isinstance(error, RateLimited)):
        return None
    return "stream" if isinstance(error, ApiError) and error.operation == "stream" else "status"


def reason_after(error: RunPodError) -> str:
    """The reason to show for a job at which a look has failed."""
    if operation_in_trouble(error):
        return "RATE_LIMITED" if isinstance(error, RateLimited) else "API_DOWN"
    return "ANSWER_UNREADABLE" if of_this_job_alone(error) else refusal(error)


def pause_after(services: Services, job: JobRecord, operation: str, error: RunPodError) -> float:
    """Pause an operation after its trouble; answers until when (s since 1970) no look is possible. While /stream alone is
    paused, looks at streamed jobs go on by /status. A Retry-After is cut as every pause between looks (``schedule.py``):
    RunPod forgets a result after a while."""
    now, after = services.clock(), error.retry_after_s if isinstance(error, RateLimited) else None
    if after is not None and after >= kept_s(job):
        fields = {"endpoint": job.name, "operation": operation, "asked_to_wait_s": after, "kept_s": kept_s(job)}
        log.critical("looks.paused_past_retention: RunPod may forget results", extra={**fields, "hint": FEWER})
    cut = None if after is None else min(after, CAP_S)
    until = services.store.pauses.pause(job.endpoint, operation, now, cut, services.spread())
    return until if operation == "status" else now


def started_at(job: JobRecord, answer: Job, now: float) -> float:
    """Since when (s since 1970) a RunPod worker works on a job that was seen in progress for the first time."""
    if job.submitted_at is None or answer.delay_s is None:
        return now
    return job.submitted_at + answer.delay_s


@dataclass(frozen=True)
class Known:
    """What is known of the jobs of an endpoint: how long the latest ones took, how many are in progress, and how many
    jobs at RunPod stand before a task id; which of them somebody watches now; and whether RunPod has just `counted` the
    jobs in progress."""

    lengths: Lengths = field(default_factory=Lengths)
    running: int = 0
    before: Mapping[str, int] = field(default_factory=dict)
    watched: Set[str] = frozenset()
    counted: bool = False

    def next_look_at(self, services: Services, job: JobRecord, checks: int | None = None) -> float:
        """When to look next (s since 1970) after one without a final answer, or after so many `checks`: as the schedule
        says, or soon if its own verdict waits."""
        now, webhook, spread = services.clock(), services.has_webhook(job), services.spread()
        if now >= verdict_at(job):
            return now + LAST_LOOK_S
        queue = self._queue_before(job)
        checks = job.checks + 1 if checks is None else checks
        pause_s = until_next_look_s(job, checks, now, self.lengths, webhook=webhook, spread=spread, queue=queue)
        if job.task_id not in self.watched:
            return now + pause_s
        # What is streamed is followed without a pause (``streaming.py``), unless /stream itself is paused.
        followed = job.options.stream and job.state is State.IN_PROGRESS
        if followed and services.store.pauses.paused_until(job.endpoint, "stream") is None:
            return now
        return now + min(pause_s, WATCHED_S)

    def by_place(self, services: Services, job: JobRecord) -> bool:
        """Whether the next look at a job, if it is in RunPod's queue, is planned by its place there."""
        return by_lengths(job, self.lengths, webhook=services.has_webhook(job)) and self._queue_before(job)[2]

    def _queue_before(self, job: JobRecord) -> Queue:
        return self.queue(self.before.get(job.task_id, 0), trusted=not job.options.low_priority)

    def queue(self, before: int, *, trusted: bool = True) -> Queue:
        """What stands in RunPod's queue before a job, for ``schedule.py``, if so many jobs at RunPod are `before` it.
        Others may overtake a job that is not `trusted`."""
        ahead = max(0, before - self.running)
        if not self.running or not self.lengths:
            return 0, 0.0, False
        counted = self.counted and trusted and ahead >= COUNTED_FROM
        return ahead, ahead / self.running * self.lengths.quantile(0.5), counted


def known(services: Services, endpoint: str, now: float, before: Mapping[str, int]) -> Known:
    """What the store knows of the jobs of an endpoint."""
    lengths, running, counted = services.store.runpod_queue.learned(endpoint, now)
    return Known(Lengths(lengths), running, before, counted=counted)


def plan_looks(
    services: Services,
    endpoint: str,
    urgent: Iterable[JobRecord],
    usual: Sequence[JobRecord],
    now: float,
    paused_until: float | None = None,
) -> Looks:
    """The order of the looks. First the `urgent` jobs, on which something must be decided, by the time of their verdict.
    Then the `usual` looks, which the budget has already granted; among these, streamed jobs come last, since they take
    longest."""
    first = sorted(urgent, key=verdict_at)
    if paused_until is not None and paused_until > now:
        return Looks([], [*first, *usual], paused_until, paused=True)
    granted, more_at = services.budget.ask(endpoint, "status", len(first)) if first else (0, now)
    usual = sorted(usual, key=lambda job: bool(job.options.stream))
    return Looks([*first[:granted], *usual], first[granted:], more_at, paused=False)


def shared_by_late_calls(
    services: Services, endpoint: str, jobs: Iterable[JobRecord], now: float
) -> dict[str, JobRecord]:
    """Task ids of joined calls past their deadline -> the job at RunPod that each shares, at which its last look is."""
    late = {job.task_id: job.joined for job in jobs if job.state is State.JOINED and verdict_at(job) <= now}
    if not late:
        return {}
    shared = {job.task_id: job for job in services.store.jobs(endpoint, set(late.values()))}
    found = {task_id: shared[shared_id] for task_id, shared_id in late.items() if shared_id in shared}
    return {task_id: job for task_id, job in found.items() if job.state in AT_RUNPOD}
