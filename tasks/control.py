"""runpod.cancel: cancel jobs by the id of a job, a group, a root, or any step of a chain.

The decision is one script, `request_cancel`: no outcome yet means CANCELLED now. What RunPod is doing becomes a debt
that the checks pay. Nothing here waits for RunPod.

Next: ``check.py``, which pays the debts.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from celery import shared_task

from celery_runpod.contract import CANCEL
from tasks.delivery import REPUBLISH_S, publish
from tasks.plan import admit_waiting, plan_check
from tasks.services import Services, services

log = logging.getLogger(__name__)


@shared_task(bind=True, name=CANCEL, ignore_result=True)
def cancel(self: Any, ids: list[str], whole_tree: bool = True) -> None:
    """Cancel the jobs of these ids; with `whole_tree` every open job under the same root, and the steps to come."""
    deps = services(self.app)
    deps.store.note_cancel(ids)
    cancel_jobs(deps, reached_by(deps, ids) if whole_tree else ids)


def reached_by(deps: Services, ids: Iterable[str]) -> list[str]:
    """The task ids of every accepted job under the roots of these ids."""
    found: dict[str, None] = {}
    for any_id in ids:
        place = deps.store.place(any_id)
        root = any_id if place is None else place.root
        if root != any_id:
            deps.store.note_cancel([root])
        for task_id in (any_id, *deps.store.members(any_id), *deps.store.members(root)):
            found[task_id] = None
    return list(found)


def cancel_jobs(deps: Services, task_ids: Iterable[str], reason: str = "revoked") -> list[str]:
    """Cancel these jobs alone; answers the ids of those that were open."""
    now = deps.clock()
    cancelled = []
    for task_id in task_ids:
        place = deps.store.place(task_id)
        if place is None or place.endpoint is None:
            continue
        word = deps.store.request_cancel(place.endpoint, task_id, {"reason": reason}, now, now + REPUBLISH_S)
        if word != "cancelled":
            continue
        cancelled.append(task_id)
        log.info("job.cancelled", extra={"task_id": task_id})
        for job in deps.store.jobs(place.endpoint, [task_id]):
            publish(deps, job)
        admit_waiting(deps, place.endpoint)
        # The check pays the debt at RunPod.
        plan_check(deps, place.endpoint, now)
    return cancelled
