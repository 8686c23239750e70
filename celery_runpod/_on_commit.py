"""`on_commit`: publish any canvas once Django's current transaction has been committed.

A worker may run a call before the transaction that made it is committed, and then it does not find the rows that it is
about. Celery's own `delay_on_commit` is a method of tasks of its Django class, and there is none for a canvas.

Not here: the same for a single call (`Endpoint.delay_on_commit`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery import Celery
from celery.canvas import Signature
from celery.result import ResultBase

from celery_runpod._call_rules import unfolded
from celery_runpod._connect import client_app
from celery_runpod._protocol import RUN
from celery_runpod._publish.caller_task import refuse_eager, refuse_wrong_options
from celery_runpod._publish.routes import signatures_after
from celery_runpod.errors import InvalidInput, NotConfigured
from celery_runpod.results import JobResult


def on_commit(signature: Signature, *, using: str | None = None, app: Celery | None = None) -> ResultBase:
    """Publish a signature, a chain, a group or a chord once Django's current transaction has been committed, or at once
    if there is none. Its result is returned now: `.id` is the id that it will have, and `JobResult.of` takes it.

    >>> result = on_commit(chain(sdxl.s(prompt="a cat"), save.s(picture.id)))
    >>> request.session["flow"] = result.id

    Args:
        using: the alias of the database whose transaction is waited for; Django's default one without it.
        app: the Celery app to publish with; by default the signature's own, or the current one.

    Raises:
        InvalidInput: it is no signature.
        InvalidOption, EagerMode: as for `Endpoint.apply_async`; a mistake in a call is raised here, not after the commit.
        NotConfigured: Django is not installed or not set up; or there is no Celery app.
        BrokerUnavailable: raised by the commit, after which nothing is rolled back: nothing was enqueued.
    """
    result, publish = prepared(signature, app)
    when_committed(publish, using)
    return result


def prepared(signature: Signature, app: Celery | None) -> tuple[Any, Callable[[], None]]:
    """The result that a signature will have, and what publishes it. A mistake in it is raised."""
    if not isinstance(signature, Signature):
        given = type(signature).__name__
        raise InvalidInput(f"on_commit() takes a signature, a chain, a group or a chord; a {given} was given")
    app = app or signature._app or client_app()
    # Checked now, because Django's tests roll back and never reach the commit.
    for one in (signature, *signatures_after(signature)):
        refuse_wrong_options(one.get("options") or {}, one["task"])
        if one["task"] == RUN:
            refuse_eager(app, unfolded(one.get("kwargs") or {}).get("endpoint"))
    # Frozen on a copy: the same signature may be given again, and each time it is another call.
    canvas = signature.clone()
    canvas._app = app
    result = JobResult.of(canvas.freeze(), app=app).result

    def publish() -> None:
        canvas.apply_async()

    return result, publish


def when_committed(call: Callable[[], None], using: str | None) -> None:
    """Call it once Django's current transaction has been committed, or now if there is none.

    Raises:
        NotConfigured: Django is not installed, or not set up.
    """
    try:
        from django.core.exceptions import ImproperlyConfigured
        from django.db import transaction
    except ImportError:
        raise NotConfigured("Django is not installed: without its transactions publish by .delay()") from None
    try:
        connection = transaction.get_connection(using)
    except ImproperlyConfigured as error:
        raise NotConfigured(f"Django is not set up: {error}") from None
    # Outside of the `try`: without a transaction it publishes now, and what that raises is its own.
    connection.on_commit(call)
