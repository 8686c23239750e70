"""How RunPod's queue moves. Where many jobs wait in it, looks are planned by their places, and made earlier when it moves
faster than was foreseen.

RunPod's queue is first in, first out, roughly, and the latest jobs have taught how long one takes: so from how many are
in progress follows when the one at a place can end. More RunPod workers may come, and what stands before it may be
cancelled. So /health is asked every few seconds, and the looks are planned again; none is made later
(docs/decisions/0025).

Not here: the arithmetic (``schedule.py``), what /health says (``why_queued.py``).
"""

from __future__ import annotations

from collections.abc import Iterable

from celery_runpod._store.places_in_queue import COUNT_EVERY_S
from celery_runpod._store.record import JobRecord
from celery_runpod._store.states import State
from tasks.order_of_looks import known
from tasks.services import Services
from tasks.why_queued import LOOK_EVERY_S, ask_health, waits_long


def follow_queue(services: Services, endpoint: str, looked_at: Iterable[JobRecord], placed: int, now: float) -> str:
    """Ask /health, if it is time, where a job of `looked_at` has waited for long, and where looks were planned by places
    in the queue: so many were `placed`, and are planned again. Returns why jobs wait in RunPod's queue, "" if it is not
    known."""
    waiting = [job for job in looked_at if job.state is State.IN_QUEUE and waits_long(job, now)]
    if not waiting and not placed:
        return ""
    every_s = COUNT_EVERY_S if placed else LOOK_EVERY_S
    mine, why, asked_at = services.store.health.claim_health_look(endpoint, now, every_s)
    if not mine:
        return why
    queue = services.store.runpod_queue.head(endpoint) if placed else []
    for job in waiting[:1] or services.store.jobs(endpoint, [], [task_id for task_id, *_ in queue[:1]]):
        why = ask_health(services, job, now, why)
    learned = known(services, endpoint, now, {})
    if queue and learned.lengths:
        # A job may have begun at any time since /health was asked before.
        begun_s = min(now - asked_at, learned.lengths.pause_s(None))
        sooner = {}
        for task_id, submitted_at, before, planned in queue:
            at = now + learned.lengths.pause_s(None, *learned.queue(before), now - submitted_at) - begun_s
            if at < planned:
                sooner[task_id] = at
        services.store.runpod_queue.look_earlier(endpoint, sooner)
    return why
