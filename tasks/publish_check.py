"""Publishes checks: one countdown message for the earliest due time of an endpoint, unless one comes early enough.

Not here: what a check does (``check.py``), and when a job is due (``backoff.py``).
"""

from __future__ import annotations

import math

from celery_runpod._connect import is_amqp
from celery_runpod._protocol import CHECK_STATUS
from tasks.services import Services


def plan_check(services: Services, endpoint: str, at: float) -> None:
    """Publish a check for this time, unless one comes early enough."""
    now = services.clock()
    at = min(max(at, now), now + services.settings.countdown_cap_s)
    if at > now:
        at = now + delayed_s(services, at - now)
    if services.store.plan_check(endpoint, at, now):
        services.app.tasks[CHECK_STATUS].apply_async(
            (endpoint,),
            countdown=at - now if at > now else None,
            queue=services.settings.queues.status,
            shadow=f"{CHECK_STATUS}[{endpoint}]",
            ignore_result=True,
            add_to_parent=False,
        )


def delayed_s(services: Services, seconds: float) -> float:
    """How long a message is delayed. RabbitMQ delays by whole seconds (docs/decisions/0004)."""
    return float(max(1, math.ceil(seconds))) if is_amqp(services.settings.broker_url) else seconds


def admit_waiting(services: Services, endpoint: str) -> None:
    """Make the next waiting jobs due, and check them now. Called when a place of `max_in_flight` may be free, or a pause
    may have ended."""
    now = services.clock()
    if services.store.submits.admit(endpoint, now, services.settings.max_in_flight(endpoint)):
        plan_check(services, endpoint, now)
