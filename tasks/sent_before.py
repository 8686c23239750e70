"""What a delivery that was killed had sent before: a task that has begun since is not sent a second time.

Celery sends what follows a task before it writes that down, so a delivery that dies in between sends it again, under the
same id. An endpoint's task knows its id. A task of the user's runs twice, unless its state says here that it has begun.

Not here: claiming the delivery (``delivery.py``).
"""

from __future__ import annotations

from typing import Any

from celery import states

BEGUN = frozenset({states.STARTED, states.RETRY, states.SUCCESS})
"""Only a task that was sent has one of these. FAILURE and REVOKED are also written for tasks that are never sent."""


def leave_out_begun(task: Any) -> None:
    """Take what has begun out of the running request of `task`: links, the rest of the chain, the chord's body. Costs one
    read of the result backend for each."""
    request = task.request

    def begun(signature: Any) -> bool:
        task_id = signature.get("options", {}).get("task_id")
        return bool(task_id) and task.backend.get_state(task_id) in BEGUN

    request.update(callbacks=[link for link in request.callbacks or () if not begun(link)] or None)
    # Celery sends the last one, with the others as its chain.
    if request.chain and begun(request.chain[-1]):
        request.update(chain=None)
    if request.chord and begun(request.chord):
        request.update(chord=None)
