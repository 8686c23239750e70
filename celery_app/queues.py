"""Where the RunPod worker sends what follows a job on RabbitMQ: to queues of the user's app, whose arguments it does not
know. Celery would declare them as classic queues, and RabbitMQ refuses that where they are something else.

Not used with Redis, where a queue has no arguments.

Next: `celery_runpod/rabbitmq.py`.
"""

from __future__ import annotations

from typing import Any

from celery.app.amqp import AMQP, Queues

from celery_runpod.rabbitmq import CallersQueue


class ForeignQueues(Queues):
    """Queues that the worker does not consume are left as they are."""

    def new_missing(self, name: str) -> Any:
        return CallersQueue(**super().new_missing(name).as_dict())  # type: ignore[no-untyped-call]


class RabbitAMQP(AMQP):
    """Celery's own, with the above."""

    queues_cls = ForeignQueues
