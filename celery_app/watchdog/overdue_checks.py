"""Publishes the checks that nobody else will: where something should have been done, and no check has begun.

It costs what is late, and not what there is: the index of endpoints names those whose check did not begin in time
(`celery_runpod/_store/endpoint_index.py`).

Not here: the thread that calls it (``self_healing.py``), lost calls (``lost_calls.py``).
"""

from __future__ import annotations

from celery_runpod._store.endpoint_index import LATE_S, EndpointIndex
from tasks.publish_check import plan_check
from tasks.services import Services

BATCH = 100
"""So many endpoints are read in one round trip."""
MOST_S = 1.0
"""A pass ends after this time: heartbeats wait for it. The next one goes on with what has waited longest."""
PATIENCE_S = 30.0
"""How late a planned check may be while checks wait in their queue: its message is most likely among them."""


def heal(services: Services) -> list[str]:
    """Publish a check for every endpoint with something overdue: a due time passed, a lease lapsed, an outcome not
    delivered, a cancel not confirmed, a job that waits although there is a place. Answers the endpoints."""
    index: EndpointIndex = services.store.endpoints
    healed: list[str] = []
    began = services.clock()
    patience_s: float | None = None
    while True:
        now = services.clock()
        if not (seen := index.late(now, BATCH)):
            return healed
        if patience_s is None:
            patience_s = PATIENCE_S if checks_wait(services) else LATE_S
        found = index.read(seen, now, patience_s)
        # Before the checks, which move them ahead: a check that fails to be published is tried again.
        index.put_off(seen, {endpoint: one.read_again_at for endpoint, one in found.items()})
        for endpoint in (endpoint for endpoint, one in found.items() if one.overdue):
            plan_check(services, endpoint, now)
            healed.append(endpoint)
        if len(seen) < BATCH or services.clock() - began > MOST_S:
            return healed


def checks_wait(services: Services) -> bool:
    """Whether checks wait in their queue, because the workers are busy."""
    with services.app.connection_for_read() as connection:
        try:
            status = connection.default_channel.queue_declare(queue=services.settings.queues.status, passive=True)
        except connection.channel_errors:
            # A list of Redis' that is empty does not exist.
            return False
        return bool(status.message_count)
