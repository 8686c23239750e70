"""The views of a browser that watches a job: its status as JSON, and its changes as server-sent events.

They serve under WSGI and ASGI alike. While a stream is open, it holds no connection to the database, and under ASGI no
thread. Who may see a job is said by a function of the project, which the setting
`RUNPOD = {"MAY_SEE": "shop.jobs.may_see"}` names; without it everybody is refused.

Not here: what is answered (`celery_runpod/_live/job_pages.py`).
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

from asgiref.sync import SyncToAsync, async_to_sync
from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, JsonResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils.module_loading import import_string

from celery_runpod._connect import client_app
from celery_runpod._live import job_pages
from celery_runpod._live.job_pages import Answer
from celery_runpod.errors import ConfigurationError, NotConfigured


def given_settings() -> dict[str, Any]:
    """The project's setting `RUNPOD`.

    Raises:
        ConfigurationError: it is no dict.
    """
    given = getattr(settings, "RUNPOD", {})
    if not isinstance(given, dict):
        raise ConfigurationError(f"the setting RUNPOD is a {type(given).__name__}; allowed: a dict")
    return given


def may_see_hook() -> Callable[..., Any] | None:
    """The project's function that says who may see a job; None if none is set.

    Raises:
        ConfigurationError: it cannot be imported, or called.
    """
    given = given_settings().get("MAY_SEE")
    try:
        found = import_string(given) if isinstance(given, str) else given
    except ImportError as error:
        raise ConfigurationError(f'the setting RUNPOD["MAY_SEE"] is {given!r}: {error}') from None
    if found is not None and not callable(found):
        raise ConfigurationError(f'the setting RUNPOD["MAY_SEE"] is a {type(found).__name__}; allowed: a function')
    return found  # type: ignore[no-any-return]


def most_streams() -> int | None:
    """How many streams a process may have open; None for the default.

    Raises:
        ConfigurationError: it is no whole number.
    """
    given = given_settings().get("MOST_STREAMS")
    if given is not None and (isinstance(given, bool) or not isinstance(given, int) or given < 0):
        raise ConfigurationError(f'the setting RUNPOD["MOST_STREAMS"] is {given!r}; allowed: a whole number, 0 or more')
    return given


def job_status(request: HttpRequest) -> HttpResponseBase:
    """GET ?task=<task id>: how the job stands, as JSON; with &after=<id of a chunk, or nothing> its chunks too."""
    task_id, refused = _asked(request)
    return refused or _response(job_pages.status(task_id, after=request.GET.get("after")))


@transaction.non_atomic_requests  # a stream must not hold a transaction open
def job_events(request: HttpRequest) -> HttpResponseBase:
    """GET ?task=<task id>: how the job stands, each change of it, and its chunks, as server-sent events."""
    task_id, refused = _asked(request)
    if refused is not None:
        return refused
    last = request.headers.get("Last-Event-ID")
    if job_pages.ended_already(last):
        return _response(job_pages.ENDED_ALREADY)
    most = most_streams()
    try:
        app = client_app()
    except NotConfigured:
        return _response(job_pages.AWAY)
    stream: Any
    _close_connections()
    if isinstance(request, ASGIRequest):
        stream = _without_thread(job_pages.asgi_stream(task_id, last, app)) if job_pages.asgi_place(most) else None
    else:
        multithread = bool(request.META.get("wsgi.multithread"))
        stream = job_pages.wsgi_stream(task_id, last, app, most, multithread=multithread)
    if stream is None:
        return _response(job_pages.NO_PLACE)
    # Django's GZipMiddleware would keep events back until a block is full; it leaves alone what is encoded already.
    return StreamingHttpResponse(stream, headers={**job_pages.EVENT_HEADERS, "Content-Encoding": "identity"})


def _close_connections() -> None:
    """Close this thread's connections to databases, which `may_see` may have opened. The next query opens them again."""
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close()


async def _without_thread(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The stream, without the thread in which Django runs what is synchronous of this request. Otherwise each open page
    would keep one; where something follows, as Django's signals at the end, a new one is made."""
    context = SyncToAsync.thread_sensitive_context.get(None)
    # One that was given belongs to whoever gave it.
    if context is not None and getattr(context, "_executor", None) is None:
        executor = SyncToAsync.context_to_thread_executor.pop(context, None)
        if executor is not None:
            executor.shutdown(wait=False)
    async with aclosing(stream) as chunks:  # type: ignore[type-var]
        async for chunk in chunks:
            yield chunk


def _asked(request: HttpRequest) -> tuple[str, HttpResponseBase | None]:
    """The task that is asked for, and the answer to who must not see it."""
    if request.method != "GET":
        return "", HttpResponseNotAllowed(["GET"])
    task_id = request.GET.get("task") or ""
    hook = may_see_hook()
    if inspect.iscoroutinefunction(hook):
        hook = async_to_sync(hook)
    refused = job_pages.refusal(task_id, hook and (lambda asked: hook(request, asked)))
    return task_id, None if refused is None else _response(refused)


def _response(answer: Answer) -> HttpResponseBase:
    if answer.body is None:
        return HttpResponse(status=answer.status, headers=answer.headers)
    return JsonResponse(answer.body, status=answer.status, headers=answer.headers)
