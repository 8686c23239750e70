"""The views of a browser that watches a job: its status as JSON, and its changes as server-sent events.

They serve under WSGI and ASGI alike. While a stream is open, it holds no connection to the database, and under ASGI no
thread. Who may see a job is said by a function of the project, which the setting
`RUNPOD = {"MAY_SEE": "shop.jobs.may_see"}` names; without it everybody is refused.

Not here: what is answered (`celery_runpod/_live/job_pages.py`).
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from asgiref.sync import SyncToAsync, async_to_sync
from django.core.handlers.asgi import ASGIRequest
from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, JsonResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase

from celery_runpod._connect import client_app
from celery_runpod._live import job_pages
from celery_runpod._live.job_pages import Answer
from celery_runpod.django._settings import may_see_hook, most_streams
from celery_runpod.errors import NotConfigured


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
        stream = job_pages.wsgi_stream(task_id, last, app, most, request.META)
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
