"""Ask the workers and wait for the answer: health, purge, pause and retry of endpoints; pods and endpoints to rent.

A process that has only the wheel, and no API key, sends a task and waits; the worker calls RunPod. The message expires
when the caller stops waiting: no purge is carried out an hour later.

Not here: what the tasks do (`tasks/endpoint_tasks.py`, `tasks/retry.py`, `tasks/management_tasks.py` of the worker);
cancelling, which waits for no answer (``results.py``).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import fields
from datetime import timedelta
from typing import Any
from uuid import UUID

from celery import Celery
from celery.exceptions import NotRegistered, TaskRevokedError
from celery.exceptions import TimeoutError as CeleryTimeoutError
from redis.exceptions import RedisError

from celery_runpod import _stand_ins
from celery_runpod._call_rules import as_text
from celery_runpod._connect import check_reachable, client_app, client_settings, mask_url, store_unavailable
from celery_runpod._protocol import EVERY_ENDPOINT, HIDDEN, PAUSE, RESUME, RETRY, Queues
from celery_runpod._publish.confirms import NOT_PUBLISHED
from celery_runpod._store.store import store_of
from celery_runpod.api._answers import Health
from celery_runpod.api._durations import bounded
from celery_runpod.errors import BrokerUnavailable, ConfigurationError, InvalidInput, NoAnswer
from celery_runpod.results import JobResult

DEFAULT_TIMEOUT_S = 30.0
MOST_S = 86_400.0


def ask(
    task: str,
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    timeout: float | timedelta = DEFAULT_TIMEOUT_S,
    app: Celery | None = None,
    endpoint: str | None = None,
) -> Any:
    """Have a worker carry out a task such as `runpod.pods.start` (docs/operations.md), and wait for its answer.

    >>> ask("runpod.pods.start", ("9k2x7m4q",))["status"]
    'STARTING'

    Args:
        timeout: how long to wait, in seconds or as a `timedelta`; a worker does not begin the task later than that.
        app: the Celery app to publish with; by default the current one.
        endpoint: the endpoint to name in `NoAnswer`.

    Raises:
        NoAnswer: no answer came in time, or the result backend went away meanwhile.
        ConfigurationError: the workers run an older version, which does not know the task.
        BrokerUnavailable: nothing was sent.
        RunPodError: what the task raised: an ApiError, PurgeRefused, RetryRefused, NameTaken, ...
    """
    timeout_s = bounded("timeout", timeout, 0.001, MOST_S)
    _stand_ins.refuse(task)
    app = app if app is not None else client_app()
    check_reachable(app)
    try:
        result = app.send_task(
            task,
            args=args,
            kwargs=dict(kwargs or {}),
            queue=Queues.of(client_settings().namespace).deliver,
            serializer="json",
            expires=timeout_s,
            ignore_result=False,
            # A pod's environment may hold secrets.
            argsrepr=HIDDEN,
            kwargsrepr=HIDDEN,
        )
    except (*NOT_PUBLISHED, RedisError, RuntimeError) as error:
        reason, url = str(error) or type(error).__name__, str(app.conf.broker_write_url or app.conf.broker_url)
    else:
        reason = ""
        try:
            # Also allowed inside a task: a worker of another app answers.
            return result.get(timeout=timeout_s, disable_sync_subtasks=False)
        except (CeleryTimeoutError, TaskRevokedError):
            worker_up = _worker_up(app)
        except (RedisError, OSError, RuntimeError) as error:
            # Celery raises RuntimeError when it stops trying to reach the backend.
            worker_up, reason = None, f"the result backend went away ({type(error).__name__})"
        except NotRegistered:
            raise ConfigurationError(f"the RunPod workers do not know {task}: they run an older version") from None
        raise NoAnswer(task, timeout_s, worker_up, endpoint, result.id, reason)
    raise BrokerUnavailable("broker", mask_url(url), reason)


def _worker_up(app: Celery) -> bool | None:
    try:
        return store_of(app).workers.worker_up(time.time())  # noqa: TID251 - the edge
    except (RedisError, OSError):
        return None


def health_from(counts: Mapping[str, int]) -> Health:
    """The answer of `runpod.health`, without the fields that only a newer version knows."""
    known = {one.name for one in fields(Health)}
    return Health(**{name: count for name, count in counts.items() if name in known})


def retry(
    task_id: str | UUID,
    *,
    endpoint: str | None = None,
    force: bool = False,
    timeout: float | timedelta = DEFAULT_TIMEOUT_S,
    app: Celery | None = None,
) -> JobResult:
    """Run a failed job again, under a new task id, with its chain and links.

    Args:
        force: run it although it was run again by hand `RUNPOD_MOST_RETRIES_BY_HAND` times before.

    Raises:
        RetryRefused: the job has not failed, is kept no longer, is part of a group or chord, was run again already, or
            was run again by hand too often.
        NoAnswer, BrokerUnavailable: as for `ask`.
    """
    app = app if app is not None else client_app()
    arguments = {"endpoint": endpoint, "force": force}
    new_id = ask(RETRY, (as_text(task_id),), arguments, timeout=timeout, app=app, endpoint=endpoint)
    return JobResult(str(new_id), app=app)


def pause(
    endpoint: str | None = None, *, timeout: float | timedelta = DEFAULT_TIMEOUT_S, app: Celery | None = None
) -> None:
    """Submit nothing to an endpoint (None: to any endpoint) until `resume`. Workers stay up; calls are accepted and wait
    with the reason ON_HOLD; jobs at RunPod go on and are delivered. A pause outlives restarts and never expires.

    The pause of all endpoints and the pause of one endpoint are independent: `resume` ends the one that it names.

    Raises:
        InvalidInput: `endpoint` is not a name. NoAnswer, BrokerUnavailable: as for `ask`.
    """
    ask(PAUSE, (_held_name(endpoint),), timeout=timeout, app=app, endpoint=endpoint)


def resume(
    endpoint: str | None = None, *, timeout: float | timedelta = DEFAULT_TIMEOUT_S, app: Celery | None = None
) -> bool:
    """End the pause of an endpoint (None: the pause of all endpoints). The jobs that waited are submitted at once.
    Returns False if another pause still holds jobs.

    Raises:
        InvalidInput: `endpoint` is not a name. NoAnswer, BrokerUnavailable: as for `ask`.
    """
    return bool(ask(RESUME, (_held_name(endpoint),), timeout=timeout, app=app, endpoint=endpoint))


def _held_name(endpoint: str | None) -> str:
    return EVERY_ENDPOINT if endpoint is None else endpoint


def refuse_other_endpoint(app: Celery, task_id: str, name: str) -> None:
    """Accept a job of this endpoint, and an id that the store does not know (yet).

    Raises:
        InvalidInput: the id is a job of another endpoint. BrokerUnavailable: the job store does not answer.
    """
    try:
        place = (reader := store_of(app)).ids.place(task_id)
        known = (reader.ids.job(task_id) or {}).get("name")
    except (RedisError, OSError) as error:
        raise store_unavailable(app, error) from None
    if place is not None and known is not None and name not in (known, place.endpoint):
        raise InvalidInput(f"task {task_id} is a job of endpoint {known}", name, task_id)
