"""Ends calls that cannot go on as they are: with links that are not signatures, stamps or a priority with which Celery
sends nothing, or a continuation that cannot be published.

Not here: the usual end (``delivery.py``); a chord that cannot be joined (``chord_body.py``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from celery.app.task import Context

from celery_runpod._protocol import RUN
from celery_runpod._store.record import JobRecord
from celery_runpod.errors import JobUndeliverable
from tasks.services import Services

MOST_PUBLISHES = 5
"""How often a continuation is published before the call ends without it."""


def drop_unfit(request: Context) -> str | None:
    """Remove from a request that with which `finish` cannot be sent, or cannot end: links and errbacks that are not
    signatures, wrong stamps, and a priority that is no number. Returns a text that says which of them a caller
    must correct, or None."""
    dropped = []
    for name, option in (("callbacks", "link"), ("errbacks", "link_error"), ("chain", "chain")):
        given = getattr(request, name)
        if given is None:
            continue
        listed = given if isinstance(given, list | tuple) else [given]
        fit = [one for one in listed if _is_signature(one)]
        dropped += [f"{option} holds a {type(one).__name__}" for one in listed if not _is_signature(one)]
        request.update({name: fit or None})
    if request.chord is not None and not _is_signature(request.chord):
        dropped.append(f"chord is a {type(request.chord).__name__}")
        request.update(chord=None)
    if not _are_stamps(getattr(request, "stamped_headers", None), getattr(request, "stamps", None)):
        dropped.append("stamped_headers does not name each stamp once")
        request.update(stamped_headers=None, stamps=None)
    info = request.delivery_info or {}
    if isinstance(info.get("priority"), float) and not math.isfinite(info["priority"]):
        request.update(delivery_info={**info, "priority": None})
    return ", ".join(dropped[:5]) or None


def _are_stamps(names: Any, stamps: Any) -> bool:
    """Whether Celery can send these on: it takes each name out of the options once."""
    if names is None or stamps is None:
        return True
    if not isinstance(stamps, Mapping) or not isinstance(names, list | tuple):
        return False
    return all(isinstance(name, str) and name in stamps for name in names) and len(set(names)) == len(names)


def _is_signature(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and isinstance(value.get("task"), str)
        and isinstance(value.get("args", []), list | tuple | None)
        and all(isinstance(value.get(name, {}), Mapping | None) for name in ("kwargs", "options"))
    )


def end_alone(services: Services, job: JobRecord, reason: str) -> JobUndeliverable:
    """End the caller's task without its links and chord, which cannot be sent. Returns the error it ends with."""
    problem = f"the outcome was fetched, but its delivery could not be published {MOST_PUBLISHES} times: {reason}"
    error = JobUndeliverable(problem, job.name, job.task_id, job.job_id)
    request = Context(id=job.task_id, task=RUN, root_id=job.root_id)
    backend = services.app.backend
    backend.mark_as_failure(job.task_id, error, request=request, store_result=not job.ignore_result)
    return error
