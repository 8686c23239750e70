"""How the end of a call reaches the caller's own worker, where something there wants to know it.

The process that publishes a call writes into a header of it the queue of its own worker (`ask`), if it wants to be told
(`wanted`). The call's continuation keeps the header. When the call has ended and its result is stored, the RunPod worker
publishes `runpod.job_ended` to that queue, before it writes the tombstone: if it dies in between, it does both again
(`tasks/delivery.py`). So the message comes at least once. It holds the output or the error itself, because the result may
have expired, or be ignored, when it is read.

A call behind one that failed never begins, and Celery stores the error of the first under its id. It is published too.

Not here: what the own worker does with it (`celery_runpod/django/_ended_task.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

from celery import Celery, states

from celery_runpod._call_rules import unfolded
from celery_runpod._protocol import ENDED_QUEUE, HIDDEN, JOB_ENDED, RUN
from celery_runpod._worker_mark import is_worker
from celery_runpod.errors import JobError, RunPodError, encode


@dataclass(frozen=True)
class End:
    """How a call ended for its caller: Celery's state, and the output or the error."""

    state: str
    result: Any = None
    error: RunPodError | None = None


_asking: list[Callable[[], bool]] = []


def tell_if(wants: Callable[[], bool]) -> None:
    """Have this process ask for the ends of the calls that it publishes while `wants()` is true."""
    if wants not in _asking:
        _asking.append(wants)


def wanted(app: Celery) -> bool:
    """Whether this process asks for the ends of its calls. Its own worker must have the task then."""
    return not is_worker(app) and any(wants() for wants in _asking)


Hears = Callable[[str, str | None, End], None]
_hearing: list[Hears] = []


def hear_fakes(hears: Hears) -> None:
    """Call `hears` at the end of each call that a test's fake took: a test has no worker of its own."""
    if hears not in _hearing:
        _hearing.append(hears)


def tell_here(task_id: str, endpoint: str | None, end: End) -> None:
    """A test's fake has ended a call."""
    for hears in _hearing:
        hears(task_id, endpoint, end)


def ask(signature: MutableMapping[str, Any], queue: str) -> None:
    """Write into a signature of `runpod.run` where its end is to be published."""
    options = signature.setdefault("options", {})
    options["headers"] = {ENDED_QUEUE: queue, **(options.get("headers") or {})}


def queue_asked(signature: Mapping[str, Any]) -> str | None:
    """Where the end of a call is to be published; None: nobody asked."""
    found = ((signature.get("options") or {}).get("headers") or {}).get(ENDED_QUEUE)
    return found if isinstance(found, str) and found else None


def publish_end(app: Celery, queue: str, task_id: str, endpoint: str | None, end: End) -> None:
    """Publish one end.

    Raises:
        NOT_PUBLISHED: the broker did not take it.
    """
    app.send_task(
        JOB_ENDED,
        kwargs={
            "task_id": task_id,
            "endpoint": endpoint,
            "state": end.state,
            "output": end.result,
            "error": None if end.error is None else encode(end.error),
        },
        queue=queue,
        serializer="json",
        ignore_result=True,
        argsrepr=HIDDEN,
        kwargsrepr=HIDDEN,
        # It is no step of the caller's flow.
        add_to_parent=False,
    )


def publish_ends_after(app: Celery, after: Iterator[Mapping[str, Any]], error: BaseException, state: str) -> None:
    """Publish the ends of the calls among these signatures, which follow a task that ended with an error.

    Raises:
        NOT_PUBLISHED: the broker did not take one.
    """
    for signature in after:
        task_id, queue = (signature.get("options") or {}).get("task_id"), queue_asked(signature)
        if signature.get("task") != RUN or queue is None or task_id is None:
            continue
        endpoint = unfolded(signature.get("kwargs") or {}).get("endpoint")
        before = f"a step before it ended with {type(error).__name__}: {str(error)[:500]}"
        told = error if isinstance(error, RunPodError) else JobError(before, endpoint, task_id)
        revoked = state == states.REVOKED
        publish_end(app, queue, task_id, endpoint, End(states.REVOKED if revoked else states.FAILURE, error=told))
