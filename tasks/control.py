"""runpod.cancel: cancel jobs by the id of a job, a group, a root, or any step of a chain.

The decision is one script, `request_cancel`: no outcome yet means CANCELLED now. What RunPod is doing becomes a debt
that the checks pay. Nothing here waits for RunPod.

Next: ``check.py``, which pays the debts.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

from celery import shared_task

from celery_runpod.contract import CANCEL
from celery_runpod.records import REACHES
from tasks.delivery import REPUBLISH_S, publish
from tasks.plan import admit_waiting, plan_check
from tasks.services import Services, services
from tasks.store.record import Job

log = logging.getLogger(__name__)

STAMP = "stamp:"
"""Before `header=value`: the id under which a cancel by stamps is noted."""


@shared_task(bind=True, name=CANCEL, ignore_result=True)
def cancel(self: Any, ids: list[str], whole_tree: bool | None = True) -> None:
    """Cancel the jobs of these ids; with `whole_tree` every open job under the same root, and the steps to come; with
    None, of an id that is no job (yet), the jobs on which it hangs."""
    carry_out(services(self.app), ids, whole_tree=whole_tree)


def carry_out(deps: Services, ids: list[str], *, whole_tree: bool | None) -> None:
    """Cancel, and forget the wish that was kept for it. Repeating it changes nothing."""
    # Remembered first: a chain's later step, or a message still queued, has no record yet.
    deps.store.note_cancel(ids, whole_tree=whole_tree)
    if whole_tree:
        cancel_jobs(deps, reached_by(deps, ids))
    else:
        before = [any_id for any_id in ids if whole_tree is None and not deps.store.is_job(any_id)]
        cancel_jobs(deps, [*ids, *(task_id for any_id in before for task_id in deps.store.members(any_id))])
    deps.store.fulfil_wishes(ids, whole_tree=whole_tree)


def sweep_wishes(deps: Services, older_than_s: float) -> None:
    """Carry out the cancels whose message was lost, or whose worker died over it."""
    wishes = deps.store.cancel_wishes(deps.clock() - older_than_s)
    for whole_tree, reach in REACHES.items():
        if ids := [any_id for any_id, wished in wishes if wished == reach]:
            carry_out(deps, ids, whole_tree=whole_tree)


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


def cancel_if_wished(deps: Services, job: Job, groups: Sequence[str], followers: Sequence[str]) -> bool:
    """Carry out a cancel that came before this job was accepted; `groups` it belongs to, `followers` hang on it.

    A cancel of one id alone says nothing of what stands before or after it in a chain: a step that was cancelled when
    it had ended already must not end the next one."""
    own = [job.task_id, *(f"{STAMP}{stamp}" for stamp in job.stamps())]
    notes = deps.store.cancel_notes([*own, job.root_id, *groups, *followers])
    if any(notes.get(any_id) == "tree" for any_id in (job.task_id, job.root_id, *followers)):
        cancel_jobs(deps, reached_by(deps, [job.task_id]))
    elif any(notes.get(any_id) for any_id in own) or any(
        notes.get(any_id, "job") != "job" for any_id in (job.root_id, *groups, *followers)
    ):
        cancel_jobs(deps, [job.task_id])
    else:
        return False
    return True


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
