"""Publishes checks: one countdown message for the earliest due time of an endpoint, unless one comes early enough.

Not here: what a check does (``check.py``), and when a job is due (``schedule.py``).
"""

from __future__ import annotations

from celery_runpod._connect import is_amqp
from celery_runpod._protocol import CHECK_STATUS
from celery_runpod._store.store import CheckTimes
from tasks.services import Services


def check_times(services: Services) -> CheckTimes:
    """How checks are planned. RabbitMQ delays a message by whole seconds (docs/decisions/0004)."""
    return CheckTimes(services.settings.countdown_cap_s, is_amqp(services.settings.broker_url))


def plan_check(services: Services, endpoint: str, at: float) -> None:
    """Publish a check for this time, unless one comes early enough."""
    now = services.clock()
    publish_check(services, endpoint, services.store.plan_check(endpoint, at, now, check_times(services)), now)


def publish_check(services: Services, endpoint: str, at: float | None, now: float) -> None:
    """Publish the check that the store planned for this time; None: it planned none."""
    if at is not None:
        # A process counts time more finely than the store; to Celery a countdown of 0.9999998 s is none, which it refuses
        # on RabbitMQ, and one of 0.0000002 s a message to be kept in the worker.
        countdown = round(at - now, 3)
        services.app.tasks[CHECK_STATUS].apply_async(
            (endpoint,),
            countdown=countdown if countdown > 0 else None,
            queue=services.settings.queues.status,
            shadow=f"{CHECK_STATUS}[{endpoint}]",
            ignore_result=True,
            add_to_parent=False,
        )


def admit_waiting(services: Services, endpoint: str) -> None:
    """Publish a check if a waiting job may be submitted now. Called when a place of `max_in_flight` may be free, or a
    pause may have ended."""
    now = services.clock()
    if services.store.submits.may_submit(endpoint, now, services.settings.max_in_flight(endpoint)):
        plan_check(services, endpoint, now)
