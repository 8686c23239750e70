"""Where the RunPod worker sends what follows a job on RabbitMQ: to queues of the user's app, whose arguments it does not
know. Celery would declare them as classic queues, and RabbitMQ refuses that where they are something else.

Not used with Redis, where a queue has no arguments.
"""

from __future__ import annotations

from typing import Any

from celery.app.amqp import AMQP, Queues

from celery_runpod._protocol import CHECK_STATUS
from celery_runpod._publish.confirms import CONFIRM_S, CONFIRMS
from celery_runpod._publish.rabbitmq import CallersQueue


class ForeignQueues(Queues):
    """Queues that the worker does not consume are left as they are."""

    def new_missing(self, name: str) -> Any:
        return CallersQueue(**super().new_missing(name).as_dict())  # type: ignore[no-untyped-call]


class RabbitAMQP(AMQP):
    """Celery's own, with the above; and what its caller wants sent to an exchange is confirmed too."""

    queues_cls = ForeignQueues

    def _create_task_sender(self) -> Any:
        send = super()._create_task_sender()

        def send_task_message(producer: Any, name: str, message: Any, **options: Any) -> Any:
            nameless = options.get("exchange") and not options.get("queue") and options.get("declare") is None
            # Checks are sent so, to be delayed: one that is lost is planned again.
            if nameless and name != CHECK_STATUS:
                options.update(declare=[CONFIRMS], confirm_timeout=CONFIRM_S)
            return send(producer, name, message, **options)

        return send_task_message
