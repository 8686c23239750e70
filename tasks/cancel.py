"""runpod.cancel: cancel jobs by the id of a job, a group, a root, or any step of a chain.

One script decides, `request_cancel`: a job without an outcome becomes CANCELLED. For a job at RunPod a check then sends
POST /cancel; this task does not wait for RunPod. First a note of the cancel is written, which every submit reads, so that
no submit begins while a large group is being cancelled.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from celery import shared_task

from celery_runpod._protocol import CANCEL, SCOPES, Scope
from celery_runpod._store.record import JobRecord
from celery_runpod._store.states import State
from tasks.delivery import UNDELIVERED_S, leave_shared, publish
from tasks.publish_check import admit_waiting, plan_check
from tasks.services import Services, services_of

log = logging.getLogger(__name__)

NOT_AT_RUNPOD = frozenset({State.WAITING, State.JOINED})
REPEAT_S, MOST_REPEATS = 60.0, 20
"""After how long a cancel that was not carried out is published again, doubled with each repeat up to an hour; and how
often. That is about a day, as long as the note is kept."""
LEASE_S = 60
"""Longer than one batch takes. After this time a cancel whose process died may be carried out by another."""
BATCH = 300
"""How many jobs are cancelled in one round trip. The ends of more jobs are delivered by checks, side by side: this task
would need minutes for them."""

STAMP = "stamp:"
"""A cancel by stamps is noted under this prefix and `header=value`."""


@shared_task(bind=True, name=CANCEL, ignore_result=True)
def cancel(self: Any, ids: list[str], scope: Scope = "tree") -> None:
    """Cancel the jobs of these ids, as far as `scope` says."""
    carry_out(services_of(self.app), ids, scope=scope)


def carry_out(services: Services, ids: list[str], *, scope: Scope) -> None:
    """Cancel, and remove the wish that was kept for it. Repeating it changes nothing. Where another worker is at it, this
    one leaves it: the message of a cancel that takes long comes more than once, and would fill every slot."""
    # Noted first: a later step of a chain, or a message in its queue, has no record yet.
    services.store.cancels.note_cancel(ids, scope=scope)
    lease = services.store.cancels.lease(ids, scope=scope, keep_s=LEASE_S)
    if lease is None:
        return
    try:
        _carry_out(services, ids, scope, lambda: services.store.cancels.keep_lease(lease, LEASE_S))
    finally:
        services.store.cancels.end_lease(lease)


def _carry_out(services: Services, ids: list[str], scope: Scope, each_batch: Callable[[], None]) -> None:
    if scope == "tree":
        cancel_jobs(services, reached_by(services, ids), each_batch=each_batch)
    else:
        before = [
            any_id
            for any_id in ids
            if any_id.startswith(STAMP) or (scope == "step" and not services.store.ids.is_job(any_id))
        ]
        members = (task_id for any_id in before for task_id in services.store.ids.members(any_id))
        cancel_jobs(services, [*ids, *members], each_batch=each_batch)
    services.store.cancels.fulfil_wishes(ids, scope=scope)


def sweep_wishes(services: Services, older_than_s: float) -> None:
    """Publish a cancel again if its message was lost, or its worker died. The watchdog does not carry it out itself,
    because a large group takes long."""
    now = services.clock()
    wishes = services.store.cancels.cancel_wishes(now - older_than_s)
    for scope in SCOPES:
        if ids := [any_id for any_id, wished in wishes if wished == scope]:
            publish_cancel(services, ids, scope=scope)
            for any_id in services.store.cancels.note_repeats(
                ids, now, scope=scope, again_s=REPEAT_S, most=MOST_REPEATS
            ):
                log.critical("cancel.not_carried_out", extra={"task_id": any_id, "repeats": MOST_REPEATS})


def publish_cancel(services: Services, ids: list[str], *, scope: Scope) -> None:
    """Let a worker carry out a cancel that is kept as a wish."""
    services.app.tasks[CANCEL].apply_async(
        (ids, scope),
        queue=services.settings.queues.deliver,
        # It need not stay in the queue once the next one is published.
        expires=REPEAT_S,
        ignore_result=True,
        add_to_parent=False,
    )


def reached_by(services: Services, ids: Iterable[str]) -> list[str]:
    """The task ids of every accepted job under the roots of these ids."""
    found: dict[str, None] = {}
    for any_id in ids:
        place = services.store.ids.place(any_id)
        root = any_id if place is None else place.root
        if root != any_id:
            services.store.cancels.note_cancel([root], scope="tree")
        for task_id in (any_id, *services.store.ids.members(any_id), *services.store.ids.members(root)):
            found[task_id] = None
    return list(found)


def cancelled_by(job: JobRecord) -> tuple[list[str], list[str]]:
    """The ids under which a cancel of this job may be noted: its own; and those of its root, groups and later steps."""
    stamps = [any_id for any_id in job.group_ids if any_id.startswith(STAMP)]
    return [job.task_id, *stamps], [job.root_id, *job.group_ids]


def stamp_ids(job: JobRecord) -> list[str]:
    """The ids under which a cancel by Celery's stamps finds this job."""
    return [f"{STAMP}{stamp}" for stamp in job.stamps()]


def is_cancelled(notes: Mapping[str, str], own: Iterable[str], others: Iterable[str]) -> bool:
    """Whether a job was cancelled. A cancel with the scope `job` of another id does not count: it may have come after the
    end of its own step, and must not end the next one."""
    return any(notes.get(any_id) for any_id in own) or any(notes.get(any_id, "job") != "job" for any_id in others)


def cancel_if_wished(
    services: Services,
    job: JobRecord,
    notes: Mapping[str, str],
    own: Sequence[str],
    others: Sequence[str],
    followers: Sequence[str],
) -> bool:
    """Carry out a cancel that came before this job was accepted. `notes`: those of its `own` ids, and of `others`
    that reach it; `followers`: the tasks after it."""
    if any(notes.get(any_id) == "tree" for any_id in (job.task_id, job.root_id, *followers)):
        cancel_jobs(services, reached_by(services, [job.task_id]))
    elif is_cancelled(notes, own, others):
        cancel_jobs(services, [job.task_id])
    else:
        return False
    return True


def cancel_jobs(
    services: Services, task_ids: Iterable[str], each_batch: Callable[[], None] = lambda: None
) -> list[str]:
    """Cancel these jobs alone; returns the ids of those that were open. Jobs that are not at RunPod come first: each end
    of a job at RunPod frees a place, which none of the others may take."""
    places = services.store.cancels.places(task_ids)
    here, there, joined = {}, {}, set()
    for endpoint, ids in places.items():
        states = services.store.cancels.states(endpoint, ids)
        here[endpoint] = [task_id for task_id in ids if states.get(task_id) in NOT_AT_RUNPOD]
        there[endpoint] = [task_id for task_id in ids if states.get(task_id) not in NOT_AT_RUNPOD]
        joined |= {task_id for task_id in ids if states.get(task_id) == State.JOINED}
    many = sum(map(len, places.values())) > BATCH
    cancelled: dict[str, list[str]] = {endpoint: [] for endpoint in places}
    for phase in (here, there):
        for endpoint, ids in phase.items():
            for some in batched(ids):
                each_batch()
                now = services.clock()
                cancelled[endpoint] += services.store.cancels.request_cancels(
                    endpoint, some, {"reason": "revoked"}, now, now if many else now + UNDELIVERED_S
                )
    for endpoint, ids in cancelled.items():
        if ids:
            admit_waiting(services, endpoint)
            # The check sends the cancels to RunPod, and delivers many ends.
            plan_check(services, endpoint, services.clock())
        # Calls that share a job leave it now, also where they are many: the last one cancels it.
        for some in batched([task_id for task_id in ids if task_id in joined] if many else ids):
            each_batch()
            for job in services.store.jobs(endpoint, some):
                log.info("job.cancelled", extra={"task_id": job.task_id})
                publish(services, job)
                leave_shared(services, job)
    return [task_id for ids in cancelled.values() for task_id in ids]


def batched(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """These ids, `BATCH` at a time."""
    for start in range(0, len(ids), BATCH):
        yield ids[start : start + BATCH]
