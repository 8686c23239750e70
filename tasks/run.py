"""[3 of 8] runpod.run: accept a call into the store, in one round trip, and leave the worker slot.

Nothing here waits for RunPod: a check submits what was accepted, hundreds of jobs side by side, and a job with
`sync=True` has a message of its own (``submit_sync.py``).

After the record is written, messages are hints and the store is the truth: if this process dies, a check or the watchdog
goes on. The task itself does not raise the error of a wrong call; it records the error as the job's end, which reaches
the caller as every end does.

Not here: what a message may hold, and how it becomes a record (``call_message.py``).

Next: ``parking.py``, then ``submit.py``.
"""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from typing import Any

from celery import shared_task, states
from celery.exceptions import Ignore

from celery_runpod._call_rules import unfolded
from celery_runpod._protocol import FINISH, FORMAT, RUN
from celery_runpod._store.record import JobRecord
from celery_runpod._store.states import State
from celery_runpod._store.store import Entered
from tasks.call_message import read_call
from tasks.cancel import cancel_if_wished, stamp_ids
from tasks.crash_points import Step, reach
from tasks.delivery import UNDELIVERED_S, hand_over, publish
from tasks.idempotency import join
from tasks.job_ended import TellsItsFailure
from tasks.parking import ids_after
from tasks.publish_check import check_times, publish_check
from tasks.put_back import nothing_but_verdicts, put_back
from tasks.services import Services, services_of
from tasks.submit_sync import MESSAGE_S, publish_submit

log = logging.getLogger(__name__)


@shared_task(bind=True, name=RUN, base=TellsItsFailure)
@nothing_but_verdicts
def run(self: Any, /, *inputs: Any, **arguments: Any) -> None:
    """Accept a call: positional the input (in a chain after the previous result), keyword arguments `endpoint` (name or
    id), `fields` (merged over the input), `options` (as `Endpoint.using`), `not_before` (s since 1970). An
    `Endpoint` has its fields as keyword arguments, and the rest under one key (`CALL`)."""
    services = services_of(self.app)
    now, arguments = services.clock(), unfolded(arguments)
    reach(Step.RUN_RECEIVED)
    if isinstance(arguments.get("format"), int) and arguments["format"] > FORMAT:
        log.warning("run.newer_format", extra={"task_id": self.request.id, "format": arguments["format"]})
        put_back(self.app, "a message of a newer format: left to a newer worker")
    job = read_call(services, self.request, self.app.tasks[FINISH], inputs, arguments, now)
    after = list(ids_after(job.continuation))
    groups = [any_id for kind, any_id in after if kind == "group"]
    followers = [any_id for kind, any_id in after if kind == "task"]
    # Also what follows: a cancel of a chord's body must reach its members, which have other roots.
    above = tuple(dict.fromkeys([*groups, *followers, *(stamps := stamp_ids(job))]))
    job = replace(job, group_ids=above)
    if not job.ended and self.backend.get_state(job.task_id) == states.REVOKED:
        # Celery's revoke while no RunPod worker was up: the user's own workers have stored it.
        job = replace(job, state=State.CANCELLED, outcome={"reason": "revoked"})
    own, others = [job.task_id, *stamps], [job.root_id, *groups, *followers]
    due = job.not_before if job.not_before > now else now + MESSAGE_S if job.options.sync else now
    if job.ended:
        due = now + UNDELIVERED_S
    times = check_times(services)
    to_submit: JobRecord | None = job
    if job.options.idempotency_key and not job.ended and now < (job.expires_at or math.inf):
        services.store.ids.index(job, followers, above)
        accepted, job, to_submit = join(services, job, due)
        services.store.outbox.drop_message(job.task_id)
        at = services.store.least_due(job.endpoint) or due
        entered = Entered(
            accepted,
            services.store.plan_check(job.endpoint, at, now, times),
            services.store.cancels.cancel_notes([*own, *others]),
        )
    else:
        entered = services.store.enter(job, due, now, times, followers=followers, above=above, noted=[*own, *others])
    reach(Step.RUN_ACCEPTED)
    log.info("job.accepted", extra={"task_id": job.task_id, "endpoint": job.name})
    # Also for a repeated message: the process that accepted the call may have died before this.
    if not job.ended and cancel_if_wished(services, job, entered.notes, own, others, followers):
        log.info("run.cancelled", extra={"task_id": job.task_id})
    elif entered.word in ("accepted", job.state):
        _go_on(services, job, to_submit, due, entered.reason)
    publish_check(services, job.endpoint, entered.publish_at, now)
    raise Ignore


def _go_on(services: Services, job: JobRecord, to_submit: JobRecord | None, due: float, reason: str) -> None:
    """Publish, join or submit a job whose record this process has just written, or show the `reason` why it waits."""
    if job.ended:
        publish(services, job)
    elif reason:
        services.show(job, State.WAITING, {"reason": reason})
    elif to_submit is None:
        hand_over(services, job)
    elif job.not_before > services.clock():
        services.show(job, State.WAITING, {"reason": "COUNTDOWN"})
    elif job.options.sync:
        publish_submit(services, to_submit, due)
