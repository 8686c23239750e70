"""Puts a task of ours in the place of errbacks with Celery's documented arguments, `(request, exc, traceback)`.

Celery calls such an errback in the process in which the task failed, and there it must be known. A job fails in a RunPod
worker, and with it the body of its chord. The worker knows no task of the caller's, so it publishes errbacks with the
task id alone. Where the app that publishes a call knows an errback that takes three arguments, the task `runpod.errback`
is published instead: it runs in the caller's own worker, on the errback's queue, and calls the errback as Celery does
(`celery_runpod/_errback_task.py`).

An errback that takes a task id stays as it is.

Not here: errbacks of a test's fakes (`celery_runpod/_stand_ins.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any

from celery import Celery

from celery_runpod._call_rules import takes_celerys_arguments
from celery_runpod._protocol import ERRBACK
from celery_runpod._worker_mark import is_worker


def wrap(app: Celery, signature: MutableMapping[str, Any]) -> None:
    """Wrap the errbacks of a signature that take Celery's arguments. Their queues are known already."""
    given = (signature.get("options") or {}).get("link_error")
    if not given or is_worker(app):
        return
    errbacks = given if isinstance(given, list | tuple) else [given]
    signature["options"]["link_error"] = [
        _wrapped(one, signature["task"]) if isinstance(one, Mapping) and takes_celerys_arguments(app, one) else one
        for one in errbacks
    ]


def _wrapped(errback: Mapping[str, Any], failed: str) -> dict[str, Any]:
    # Its options, with its queue and its id, are the wrapper's: the errback runs within it.
    options = dict(errback.get("options") or {})
    return {
        "task": ERRBACK,
        "args": [dict(errback)],
        "kwargs": {"task": failed},
        "options": options,
        "subtask_type": None,
        "immutable": False,
    }
