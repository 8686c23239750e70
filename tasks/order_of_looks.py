"""Which jobs a check asks RunPod about, in which order, and when again.

Last looks come first: those at jobs whose own verdict is due (``own_verdicts.py``). They may use the whole budget; other
looks leave a part of it, so that they cannot delay a verdict.

Not here: the looks themselves (``check.py``), and how long the pauses between them are (``schedule.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from celery_runpod._store.record import Job
from celery_runpod._store.states import AT_RUNPOD, State
from celery_runpod.options import Backoff
from tasks.own_verdicts import verdict_at
from tasks.schedule import LAST_LOOK_S, Lengths, delay_s, until_next_look_s
from tasks.services import Services

FAILED = Backoff(first_s=5.0, factor=2.0, cap_s=300.0, jitter=0.1)


@dataclass(frozen=True)
class Looks:
    """`granted`: the jobs to look at, in this order. `others`: not before `again_at` (s since 1970), because looks are
    `paused` or the budget is used up."""

    granted: list[Job]
    others: list[Job]
    again_at: float
    paused: bool


def plan_looks(services: Services, endpoint: str, urgent: Iterable[Job], usual: Sequence[Job], now: float) -> Looks:
    """The order of the looks: at `urgent` jobs, on which something must be decided, by the time of their verdict; then
    the `usual` looks, which the budget has granted before."""
    first = sorted(urgent, key=verdict_at)
    until = services.store.pauses.paused_until(endpoint, "status")
    if until is not None and until > now:
        return Looks([], [*first, *usual], until, paused=True)
    granted = services.budget.take(endpoint, "status", len(first)) if first else 0
    return Looks([*first[:granted], *usual], first[granted:], now + 1 + services.spread(), paused=False)


def shared_by_late_calls(services: Services, endpoint: str, jobs: Iterable[Job], now: float) -> dict[str, Job]:
    """Task ids of joined calls past their deadline -> the job at RunPod that each shares, at which its last look is."""
    late = {job.task_id: job.joined for job in jobs if job.state is State.JOINED and verdict_at(job) <= now}
    if not late:
        return {}
    shared = {job.task_id: job for job in services.store.jobs(endpoint, set(late.values()))}
    found = {task_id: shared[shared_id] for task_id, shared_id in late.items() if shared_id in shared}
    return {task_id: job for task_id, job in found.items() if job.state in AT_RUNPOD}


def failed_again_s(services: Services, job: Job) -> float:
    """For how many seconds a job is put off after the work on it has raised again."""
    return delay_s(job.failures, FAILED, services.spread())


def next_look_at(services: Services, job: Job, lengths: Lengths) -> float:
    """When to look again after a look without a final answer: as the schedule says, or soon if its own verdict waits."""
    now, webhook = services.clock(), services.has_webhook(job)
    if now >= verdict_at(job):
        return now + LAST_LOOK_S
    return now + until_next_look_s(job, job.checks + 1, now, lengths, webhook=webhook, spread=services.spread())
