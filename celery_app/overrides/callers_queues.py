"""How the RunPod worker publishes, on RabbitMQ, to queues of the user's app, whose arguments it does not know.

Celery would declare them as classic queues, which RabbitMQ refuses if they are of another type. Not used with Redis,
where a queue has no arguments.
"""

from __future__ import annotations

from typing import Any

from celery_runpod._protocol import CHECK_STATUS
from celery_runpod._publish.confirms import CONFIRM_S, CONFIRMS
from celery_runpod._publish.rabbitmq import ForeignAMQP


class RabbitAMQP(ForeignAMQP):
    """A message to an exchange without a queue is confirmed too."""

    def _create_task_sender(self) -> Any:
        send = super()._create_task_sender()

        def send_task_message(producer: Any, name: str, message: Any, **options: Any) -> Any:
            nameless = options.get("exchange") and not options.get("queue") and options.get("declare") is None
            # Checks are sent to an exchange too, to be delayed. A lost check is planned again.
            if nameless and name != CHECK_STATUS:
                options.update(declare=[CONFIRMS], confirm_timeout=CONFIRM_S)
            return send(producer, name, message, **options)

        return send_task_message
