"""The task `runpod.job_ended`, which runs in the project's own worker: sends Django's signal `job_ended`.

A worker that is killed while receivers run loses nothing: the message is acknowledged afterwards. A receiver that raises
has the task repeated, later and later.

A worker that starts compares the rows that are jobs with their results, by the task `runpod.catch_up_rows`. The one
before it may have been killed between taking a message and noting that: Celery's Redis transport loses it then. Of many
workers that start, one compares for all: a pass serves each request that is older than it.

Not here: who publishes it (`tasks/job_ended.py` of the RunPod worker).
"""

from __future__ import annotations

import logging
import time
from typing import Any

from celery import Celery, states
from celery.backends.redis import RedisBackend
from celery.exceptions import TaskRevokedError, WorkerLostError
from celery.signals import task_failure, task_revoked, worker_ready

from celery_runpod import _stand_ins
from celery_runpod._protocol import JOB_ENDED
from celery_runpod._publish import job_ends
from celery_runpod._publish.client_tasks import ClientSideTask, in_every_app
from celery_runpod._publish.confirms import NOT_PUBLISHED
from celery_runpod._publish.routes import never_begin
from celery_runpod._worker_mark import is_worker
from celery_runpod.django.signals import job_ended
from celery_runpod.errors import RunPodError, decode
from celery_runpod.results import JobResult

log = logging.getLogger(__name__)

CATCH_UP = "runpod.catch_up_rows"
CATCH_UP_EXPIRES_S = 600.0
PASS_S = 10
"""Between the beginnings of two passes."""
CLOCKS_S = 2.0
"""So far apart may the clocks of two workers be."""
MOST_REPEATS = 8
FIRST_REPEAT_S = 2.0
"""Doubled with each repeat: the last one is 4 minutes after the one before."""


class EndedTask(ClientSideTask):
    """`runpod.job_ended` in an app that has receivers."""

    abstract = True
    ignore_result = True
    acks_late = True
    reject_on_worker_lost = True
    max_retries = MOST_REPEATS


def send(task_id: str, endpoint: str | None, state: str, result: Any, error: RunPodError | None) -> Exception | None:
    """Send the signal to every receiver. Returns what the first receiver that failed has raised."""
    answers = job_ended.send_robust(
        sender=JobResult, task_id=task_id, endpoint=endpoint, state=state, result=result, error=error
    )
    # Django logs each of them.
    return next((answer for _, answer in answers if isinstance(answer, Exception)), None)


def run_ended(self: Any, *, task_id: str, endpoint: str | None, state: str, output: Any, error: Any, **_: Any) -> None:
    """Send the signal for one call; again later, if a receiver raises, or if its worker was killed meanwhile."""
    again_s = FIRST_REPEAT_S * 2**self.request.retries
    if (self.request.delivery_info or {}).get("redelivered"):
        # Counted, and not run at once: a receiver that kills its process each time would be called for ever.
        raise self.retry(exc=WorkerLostError("the worker was lost while it ran"), countdown=again_s)
    failed = send(task_id, endpoint, state, output, None if error is None else decode(error))
    if failed is not None:
        raise self.retry(exc=failed, countdown=again_s)


def _wanted() -> bool:
    return bool(job_ended.has_listeners()) and not _stand_ins.active()


def _of_a_fake(task_id: str, endpoint: str | None, end: job_ends.End) -> None:
    """Send the signal for a call that a test's fake took, in this process."""
    if job_ended.has_listeners() and (failed := send(task_id, endpoint, end.state, end.result, end.error)):
        raise failed


def run_catch_up(self: Any, *, asked_at: float) -> None:
    """Save the ends that rows do not know. `asked_at`: s since 1970."""
    from celery_runpod.django._project_rows import job_models

    began = _latest_pass(self.app, self.request.id)
    if began is not None:
        if asked_at + CLOCKS_S > began:
            raise self.retry(countdown=PASS_S)
        return
    for model in job_models():
        if saved := model.catch_up_jobs():
            log.warning("saved the ends of %s jobs that had not arrived: %s", saved, model._meta.label)


def backend_in_redis(app: Celery) -> RedisBackend | None:
    return app.backend if isinstance(app.backend, RedisBackend) else None


def _latest_pass(app: Celery, message_id: str) -> float | None:
    """When the latest pass began (s since 1970), if that is less than `PASS_S` ago. None if this message begins a pass
    now, or begins its own again. Redis, as the result backend, keeps the latest one; with another backend each message
    begins a pass."""
    backend = backend_in_redis(app)
    if backend is None:
        return None
    key, now = backend.get_key_for_task(CATCH_UP), time.time()  # noqa: TID251 - the edge
    if backend.client.set(key, f"{now} {message_id}", nx=True, ex=PASS_S):
        return None
    began, _, whose = (backend.client.get(key) or b"0 ").decode().partition(" ")
    return None if whose == message_id else float(began)


@worker_ready.connect
def _catch_up(sender: Any = None, **_: Any) -> None:
    from celery_runpod.django._project_rows import job_models

    app: Celery = sender.app
    if CATCH_UP not in app.tasks or is_worker(app) or not any(job_models()):
        return
    try:
        asked_at = time.time()  # noqa: TID251 - the edge
        app.send_task(CATCH_UP, kwargs={"asked_at": asked_at}, expires=CATCH_UP_EXPIRES_S, ignore_result=True)
    except NOT_PUBLISHED as error:
        log.warning("rows are not compared with the ends of their jobs: %s", error)


@task_failure.connect
def _own_task_failed(sender: Any = None, exception: Any = None, **_: Any) -> None:
    """A task of the project's own has failed in its worker: the calls behind it never begin."""
    _tell_those_after(sender.app, sender.request, exception, states.FAILURE)


@task_revoked.connect
def _own_task_revoked(sender: Any = None, request: Any = None, **_: Any) -> None:
    _tell_those_after(sender.app, request, TaskRevokedError("revoked"), states.REVOKED)


def _tell_those_after(app: Celery, request: Any, error: BaseException, state: str) -> None:
    if not job_ends.wanted(app):
        return
    options = {"link": request.callbacks, "chain": request.chain, "chord": request.chord}
    after = never_begin({"options": options})
    try:
        job_ends.publish_ends_after(app, after, error, state)
    except NOT_PUBLISHED as problem:
        log.error("the end of what follows the task %s was not published: %s", request.id, problem)


@in_every_app
def register(app: Celery) -> None:
    if JOB_ENDED not in app._tasks:
        app.task(name=JOB_ENDED, base=EndedTask, bind=True, shared=False, lazy=False)(run_ended)
        app.task(name=CATCH_UP, base=EndedTask, bind=True, shared=False, lazy=False)(run_catch_up)


def connect() -> None:
    """Ask for the ends of calls."""
    job_ends.tell_if(_wanted)
    job_ends.hear_fakes(_of_a_fake)
