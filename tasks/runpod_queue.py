"""How RunPod's queue moves. Where many jobs wait in it, looks are planned by their places, and made earlier when it moves
faster than was foreseen.

RunPod's queue is first in, first out, roughly, and the latest jobs have taught how long one takes: so from how many are
in progress follows when the one at a place can end. More RunPod workers may come, and what stands before it may be
cancelled. So /health is asked every few seconds, and the looks are planned again; none is made later
(docs/decisions/0025).

Not here: the arithmetic (``schedule.py``), what /health says (``why_queued.py``).
"""

from __future__ import annotations

from celery_runpod._store.places_in_queue import COUNT_EVERY_S
from tasks.order_of_looks import known
from tasks.services import Services
from tasks.why_queued import ask_health


def follow_queue(services: Services, endpoint: str, now: float) -> None:
    """Plan looks again that were planned by places in the queue, if it is time to ask /health."""
    mine, why, asked_at = services.store.health.claim_health_look(endpoint, now, COUNT_EVERY_S)
    if not mine:
        return
    queue = services.store.runpod_queue.head(endpoint)
    for job in services.store.jobs(endpoint, [], [task_id for task_id, *_ in queue[:1]]):
        ask_health(services, job, now, why)
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
