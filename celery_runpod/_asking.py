"""Asking the workers: health, purge and retry of an endpoint, managed pods and endpoints.

A process that has only the wheel, and no API key, sends a task and waits for its answer; the worker calls RunPod. A
message that waits for longer than its caller expires: a purge is not carried out an hour later.

Not here: what the tasks do (the worker's `tasks/endpoint_tasks.py`, `tasks/retry.py`, `tasks/management.py`);
cancelling, which needs no answer (``results.py``).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from celery import Celery
from celery.exceptions import NotRegistered, TaskRevokedError
from celery.exceptions import TimeoutError as CeleryTimeoutError
from redis.exceptions import RedisError

from celery_runpod._connect import check_reachable, client_app, client_settings, mask_url, store_unavailable
from celery_runpod._protocol import EVERY_ENDPOINT, HIDDEN, PAUSE, RESUME, RETRY, Queues
from celery_runpod._publish.confirms import NOT_PUBLISHED
from celery_runpod._store.reader import reader_for
from celery_runpod.api._answers import Health
from celery_runpod.errors import BrokerUnavailable, ConfigurationError, InvalidInput, InvalidOption, NoAnswer
from celery_runpod.results import JobResult

DEFAULT_TIMEOUT_S = 30.0
MOST_S = 86_400.0


def ask(
    task: str,
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    app: Celery | None = None,
    endpoint: str | None = None,
) -> Any:
    """Have a worker carry out one of the tasks of `_protocol.CONTROL`, or of the management API, and wait for its answer.

    >>> ask("runpod.pods.start", ("9k2x7m4q",))["status"]
    'STARTING'

    Args:
        timeout_s: seconds to wait; a worker does not begin it later than that.

    Raises:
        NoAnswer: nothing came in time, or the result backend went away meanwhile.
        ConfigurationError: the workers are older, and do not know the task.
        BrokerUnavailable: nothing was sent.
        RunPodError: what the task raised: an ApiError, PurgeRefused, RetryRefused, NameTaken, ...
    """
    if isinstance(timeout_s, bool) or not isinstance(timeout_s, int | float) or not 0 < timeout_s <= MOST_S:
        raise InvalidOption("timeout_s", repr(timeout_s)[:80], f"more than 0 and at most {MOST_S:g} seconds")
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
            # Inside a task too: the answer comes from a worker of another app.
            return result.get(timeout=timeout_s, disable_sync_subtasks=False)
        except (CeleryTimeoutError, TaskRevokedError):
            worker_up = _worker_up(app)
        except (RedisError, OSError, RuntimeError) as error:
            # Celery says RuntimeError when it gives the backend up.
            worker_up, reason = None, f"the result backend went away ({type(error).__name__})"
        except NotRegistered:
            raise ConfigurationError(f"the RunPod workers do not know {task}: they run an older version") from None
        raise NoAnswer(task, timeout_s, worker_up, endpoint, result.id, reason)
    raise BrokerUnavailable("broker", mask_url(url), reason)


def _worker_up(app: Celery) -> bool | None:
    try:
        return reader_for(app).worker_up(time.time())  # noqa: TID251 - the edge
    except (RedisError, OSError):
        return None


def health_from(counts: Mapping[str, int]) -> Health:
    """What `runpod.health` answers; what a newer worker tells besides is left out."""
    known = {one.name for one in fields(Health)}
    return Health(**{name: count for name, count in counts.items() if name in known})


def retry(
    task_id: str,
    *,
    endpoint: str | None = None,
    force: bool = False,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    app: Celery | None = None,
) -> JobResult:
    """Run a job that failed again, under a new task id, with the chain and the links that hung on it.

    Args:
        force: run it although it was run again by hand `RUNPOD_MOST_RETRIES_BY_HAND` times before.

    Raises:
        RetryRefused: it has not failed, is kept no longer, is part of a group or chord, was run again already, or too
            often by hand.
        NoAnswer, BrokerUnavailable: as for `ask`.
    """
    app = app if app is not None else client_app()
    arguments: dict[str, Any] = {"endpoint": endpoint}
    if force:
        arguments["force"] = True  # left out otherwise: a worker of an older version does not know it
    new_id = ask(RETRY, (task_id,), arguments, timeout_s=timeout_s, app=app, endpoint=endpoint)
    return JobResult(str(new_id), app=app)


def pause(endpoint: str | None = None, *, timeout_s: float = DEFAULT_TIMEOUT_S, app: Celery | None = None) -> None:
    """Submit nothing to an endpoint, or with None to any, until `resume`. Workers stay up, calls are accepted and wait
    with the reason ON_HOLD; what RunPod has goes on, and is delivered. A pause outlives restarts and never expires.

    A pause of all endpoints and one of a single endpoint are two: `resume` takes back the one that it names.

    Raises:
        InvalidInput: the endpoint is no name. NoAnswer, BrokerUnavailable: as for `ask`.
    """
    ask(PAUSE, (_brake_of(endpoint),), timeout_s=timeout_s, app=app, endpoint=endpoint)


def resume(endpoint: str | None = None, *, timeout_s: float = DEFAULT_TIMEOUT_S, app: Celery | None = None) -> bool:
    """Take back the pause of an endpoint, or with None the pause of all. The jobs that waited are submitted at once.
    Answers False where another pause still holds jobs.

    Raises:
        InvalidInput: the endpoint is no name. NoAnswer, BrokerUnavailable: as for `ask`.
    """
    return bool(ask(RESUME, (_brake_of(endpoint),), timeout_s=timeout_s, app=app, endpoint=endpoint))


def _brake_of(endpoint: str | None) -> str:
    return EVERY_ENDPOINT if endpoint is None else endpoint


def refuse_other_endpoint(app: Celery, task_id: str, name: str) -> None:
    """Raises InvalidInput for a job of another endpoint, BrokerUnavailable without the job store; an id of which nothing
    is known (yet) passes."""
    try:
        place = (reader := reader_for(app)).place(task_id)
        known = (reader.job(task_id) or {}).get("name") if place is not None and place.endpoint is not None else None
    except (RedisError, OSError) as error:
        raise store_unavailable(app, error) from None
    if place is not None and known is not None and name not in (known, place.endpoint):
        raise InvalidInput(f"task {task_id} is a job of endpoint {known}", name, task_id)
