"""runpod.retry: runs a failed job again, under a new task id, with its chain and links.

Input and continuation of a failed job are kept for `RUNPOD_KEEP_FAILED_S`. The retry is a new call: a new record, a new
submit, new deadlines. Its chain and links are the old ones, so a retry that succeeds replaces the FAILURE of the chain's
last step. A member of a group or chord is refused, because a failed chord cannot be resumed.

The retry also keeps the errbacks, and one of them may call `Endpoint.retry`. So a record counts how often its job was run
again by hand (`generation`); after `RUNPOD_MOST_RETRIES_BY_HAND` times only `force` allows one more.

Not here: `retries=n` of a call (``delivery.py``). RunPod's own /retry is not used: it keeps the job id, and late news of
the failed attempt would count for the next one.
"""

from __future__ import annotations

import json
import logging
import uuid
from dataclasses import replace
from typing import Any

from celery import shared_task
from kombu.utils.json import dumps, loads

from celery_runpod._protocol import DEFAULT_DEADLINE_S, FORMAT, RETRY
from celery_runpod._store.record import JobRecord
from celery_runpod._store.states import OUTCOMES, State
from celery_runpod.errors import InvalidInput, RetryRefused, RunPodError
from celery_runpod.options import Options
from tasks.cancel import stamp_ids
from tasks.parking import ids_after
from tasks.publish_check import plan_check
from tasks.services import Services, services_of

log = logging.getLogger(__name__)

LOOKS, LOOK_S = 30, 0.1


@shared_task(bind=True, name=RETRY, throws=(RunPodError,))
def retry(self: Any, task_id: str, endpoint: str | None = None, force: bool = False) -> str:
    """Run a failed job again; returns the new task id. With `endpoint` the job must be one of that endpoint. With
    `force` it may have been run again by hand any number of times.

    Raises:
        RetryRefused: it has not failed, is not kept (any more), is part of a group or chord, was run again already,
            or was run again by hand `RUNPOD_MOST_RETRIES_BY_HAND` times before.
    """
    services = services_of(self.app)
    if not isinstance(task_id, str) or not task_id:
        raise InvalidInput(f"task id {task_id!r}: a text is needed")
    if not isinstance(force, bool):
        raise InvalidInput(f"force {force!r}: True or False is needed", task_id=task_id)
    # The same for each copy of this message: a repeat begins no second job.
    new_id = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{self.request.id}:{task_id}"))
    job = _again(services, task_id, new_id, endpoint, force)
    holder, begun = services.store.retries.claim_retry(job.endpoint, task_id, new_id)
    if holder != new_id:
        if begun:
            raise RetryRefused(task_id, f"it was run again already, as task {holder}", holder)
        # Another message claimed it and has not written the record; it may have expired. Write it in its place.
        job = _again(services, task_id, holder, endpoint, force)
    followers = [any_id for kind, any_id in ids_after(job.continuation) if kind == "task"]
    services.store.ids.index(job, followers, job.group_ids)
    now = services.clock()
    if services.store.accept(job, now) == "accepted":
        log.info("job.run_again", extra={"task_id": holder, "failed_as": task_id, "endpoint": job.name})
        services.show(job, State.WAITING, {"reason": "RETRY"})
    services.store.retries.note_retry_begun(job.endpoint, task_id)
    plan_check(services, job.endpoint, now)
    return holder


def _again(services: Services, task_id: str, new_id: str, endpoint: str | None, force: bool) -> JobRecord:
    """The record of the new call."""
    its_endpoint = services.store.ids.endpoint_of(task_id)
    if its_endpoint is None:
        raise RetryRefused(task_id, "it is no job of this namespace, or ended too long ago")
    kept = _kept(services, its_endpoint, task_id)
    if kept is None:
        raise RetryRefused(task_id, _why_not_kept(services, task_id))
    if endpoint is not None and its_endpoint != services.settings.resolve(endpoint)[0]:
        raise RetryRefused(task_id, f"it is a job of endpoint {kept['name']}, not of {endpoint}")
    if int(kept["format"]) > FORMAT:
        raise RetryRefused(task_id, "a newer version of celery-runpod has kept it")
    generation, most = int(kept.get("generation", 0)), services.settings.most_retries_by_hand
    if generation >= most and not force:
        raise RetryRefused(
            task_id,
            f"it was run again by hand {generation} times already, and RUNPOD_MOST_RETRIES_BY_HAND of the workers allows "
            f"{most} (an errback that runs its own job again would go on for ever): force=True, or `celery-runpod retry "
            f"{task_id} --force`, runs it again, and pays for it",
        )
    continuation: Any = loads(kept["continuation"])
    if _in_group(continuation):
        raise RetryRefused(task_id, "it is part of a group or chord, which has ended with it: call the whole again")
    continuation["options"]["task_id"] = new_id
    text = str(dumps(continuation))
    after = list(ids_after(text))
    if services.store.cancels.tree_cancelled([kept["root_id"], *(any_id for _, any_id in after)]):
        raise RetryRefused(task_id, "the chain or group that it belongs to was cancelled less than a day ago")
    now, options = services.clock(), replace(Options.parse(json.loads(kept["options"])), idempotency_key=None)
    job = JobRecord(
        task_id=new_id,
        endpoint=its_endpoint,
        name=kept["name"],
        root_id=kept["root_id"],
        continuation=text,
        options=options,
        accepted_at=now,
        begun_at=now,
        not_before=now,
        end_by=now + (options.deadline or DEFAULT_DEADLINE_S),
        start_by=None if options.start_timeout is None else now + options.start_timeout,
        api_key_name=kept.get("api_key_name") or None,
        group_ids=tuple(dict.fromkeys(any_id for kind, any_id in after if kind == "group")),
        ignore_result=kept.get("ignore_result") == "1",
        input=json.loads(kept["input"]),
        reason="RETRY",
        generation=generation + 1,
    )
    return replace(job, group_ids=(*job.group_ids, *stamp_ids(job)))


def _kept(services: Services, endpoint: str, task_id: str) -> dict[str, str] | None:
    """What was kept. A caller may see the failure a moment before its delivery is marked, so wait for that."""
    for _ in range(LOOKS):
        kept = services.store.retries.failed(endpoint, task_id)
        if kept is not None or (services.store.ids.job(task_id) or {}).get("state") not in OUTCOMES:
            return kept
        services.sleep(LOOK_S)
    return services.store.retries.failed(endpoint, task_id)


def _why_not_kept(services: Services, task_id: str) -> str:
    record = services.store.ids.job(task_id) or {}
    state, verdict = record.get("state"), record.get("verdict")
    if state in OUTCOMES:
        return f"its end ({state}) has not reached the caller yet: try again in a moment"
    if state is not None and state != State.DELIVERED:
        return f"it has not ended (its state is {state})"
    if verdict in (State.COMPLETED, State.CANCELLED):
        return f"it has not failed (it ended as {verdict})"
    return (
        "its input is not kept (any more): RUNPOD_KEEP_FAILED_S says for how long, and a call that shares a job by "
        "idempotency_key, or that was refused before it was submitted, keeps none"
    )


def _in_group(continuation: Any) -> bool:
    """Whether the task, or the end of the chain that it belongs to, is a member of a group or chord."""
    steps = [continuation, *(continuation["options"].get("chain") or ())]
    bodies = [(step.get("kwargs") or {}).get("body") or {} for step in steps if step.get("task") == "celery.chord"]
    options = [step.get("options") or {} for step in (*steps, *bodies)]
    return any(one.get("chord") for one in options) or bool(continuation["options"].get("group_id"))
