"""Celery's revoke commands for jobs: `revoke`, `terminate`, `revoke_by_stamped_headers`, Flower's button.

Each command reaches every worker's main process, in its event loop. In the first of them a thread cancels the ids in the
store, because the loop must not wait; many are cancelled by a task. Celery's own command does not get the ids of jobs, so
it terminates no process that works on one; if the worker also runs tasks of the user (RUNPOD_IMPORTS), it gets all other
ids. Celery's list of revoked ids is not read for jobs (``unrevoked_request.py``).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from celery.worker import state as worker_state
from celery.worker.control import Panel

from celery_runpod._protocol import FINISH, RUN
from celery_runpod._store.record import stamps_of
from tasks.cancel import BATCH, STAMP, carry_out, publish_cancel
from tasks.services import Services, services_of

log = logging.getLogger(__name__)

_original: dict[str, Callable[..., Any]] = {}


def install() -> None:
    """Replace Celery's commands in this process. For another app they call Celery's own."""
    for name, command in (("revoke", _revoke), ("terminate", _terminate), ("revoke_by_stamped_headers", _by_stamps)):
        if name not in _original:
            _original[name] = Panel.data[name]
            Panel.data[name] = command


def _revoke(state: Any, task_id: Any, terminate: Any = False, signal: Any = None, **kwargs: Any) -> Any:
    if not hasattr(state.app, "runpod_services"):
        return _original["revoke"](state, task_id, terminate, signal, **kwargs)
    ids = [task_id] if isinstance(task_id, str) else list(task_id or ())
    services = services_of(state.app)
    if services.settings.imports and (others := [any_id for any_id in ids if not _works_for(any_id)]):
        _original["revoke"](state, others, terminate, signal, **kwargs)
    _off_the_loop(services, lambda: _cancel(services, ids))
    return {"ok": f"tasks {', '.join(ids)} handed to celery-runpod"}


def _terminate(state: Any, signal: Any, task_id: Any, **kwargs: Any) -> Any:
    return _revoke(state, task_id, True, signal, **kwargs)


def _by_stamps(state: Any, headers: Any, terminate: Any = False, signal: Any = None, **kwargs: Any) -> Any:
    ours = hasattr(state.app, "runpod_services")
    # `terminate` would kill every process that works on a task with such a stamp, also on a job.
    terminate = False if ours else terminate
    answer = _original["revoke_by_stamped_headers"](state, headers, terminate, signal, **kwargs)
    if ours:
        # The command line gives texts, `header=value`.
        stamps = stamps_of(headers) if isinstance(headers, Mapping) else [str(one) for one in headers]
        services = services_of(state.app)
        _off_the_loop(services, lambda: _cancel(services, [f"{STAMP}{stamp}" for stamp in stamps]))
    return answer


def _works_for(task_id: str) -> bool:
    """Whether this worker holds a message of `run` or `finish` under this id."""
    request = worker_state.requests.get(task_id)
    return request is not None and request.name in (RUN, FINISH)


def _cancel(services: Services, ids: Sequence[str]) -> None:
    """Cancel these jobs and, for the id of a stamp, all that have it, also those that are accepted later."""
    # Kept until it is carried out: Celery sends the command once, and this process may die. Every worker gets it, and the
    # first one does it.
    if not ids or not services.store.cancels.wish_cancel(ids, services.clock(), scope="job"):
        return
    if sum(services.store.ids.count_members(one) if one.startswith(STAMP) else 1 for one in ids) > BATCH:
        # In a process of the pool: it would hold up the event loop.
        publish_cancel(services, list(ids), scope="job")
    else:
        carry_out(services, list(ids), scope="job")


def _off_the_loop(services: Services, work: Callable[[], None]) -> None:
    """Do the work in a thread, and repeat it while the store is away: a revoke command has no answer for errors."""

    def away(error: Exception) -> None:
        log.error("revoke.store_away", extra={"error": str(error)})

    def insist() -> None:
        try:
            services.insist(work, away)
        except Exception:
            log.exception("revoke.failed")

    threading.Thread(target=insist, name="runpod-revoke", daemon=True).start()
