"""Celery's revoke commands, for ids of ours: `revoke`, `terminate`, `revoke_by_stamped_headers`, Flower's button.

Each reaches every worker's main process, in its event loop. Ids of ours are handed to the store's `request_cancel`
in a thread (the loop must not wait), the others to Celery. Celery's own list must never see our ids, and no process of
ours is ever terminated.

Next: ``selfheal.py``.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from typing import Any

from celery import Celery
from celery.worker.control import Panel

from tasks.control import carry_out
from tasks.services import Services, services

log = logging.getLogger(__name__)

_original: dict[str, Callable[..., Any]] = {}


def install(app: Celery) -> None:
    """Put our commands before Celery's in this process; those of another app fall through to Celery's."""
    for name, command in (("revoke", _revoke), ("terminate", _terminate), ("revoke_by_stamped_headers", _by_stamps)):
        if name not in _original:
            _original[name] = Panel.data[name]
            Panel.data[name] = command


def _revoke(state: Any, task_id: Any, terminate: Any = False, signal: Any = None, **kwargs: Any) -> Any:
    ids = [task_id] if isinstance(task_id, str) else list(task_id)
    if not hasattr(state.app, "runpod_services"):
        return _original["revoke"](state, task_id, terminate, signal, **kwargs)
    _off_the_loop(_cancel_ours, services(state.app), ids)
    return {"ok": f"tasks {', '.join(ids)} handed to celery-runpod"}


def _terminate(state: Any, signal: Any, task_id: Any, **kwargs: Any) -> Any:
    return _revoke(state, task_id, True, signal, **kwargs)


def _by_stamps(state: Any, headers: Any, terminate: Any = False, signal: Any = None, **kwargs: Any) -> Any:
    answer = _original["revoke_by_stamped_headers"](state, headers, False, signal, **kwargs)
    if hasattr(state.app, "runpod_services") and isinstance(headers, dict):
        _off_the_loop(_cancel_stamped, services(state.app), headers)
    return answer


def _cancel_ours(deps: Services, ids: Iterable[str]) -> None:
    wanted = list(ids)
    # Kept until it is carried out, also if this process dies over it: the command is told once.
    deps.store.wish_cancel(wanted, deps.clock(), whole_tree=False)
    carry_out(deps, wanted, whole_tree=False)


def _cancel_stamped(deps: Services, headers: dict[str, Any]) -> None:
    """Cancel the open jobs whose stamps match any of these headers."""
    matching = []
    for endpoint in deps.store.endpoints():
        open_ids: Any = deps.store.redis.zrange(deps.store.keys.due(endpoint), 0, -1)
        for start in range(0, len(open_ids), 500):
            for job in deps.store.jobs(endpoint, open_ids[start : start + 500]):
                if job.stamped(headers):
                    matching.append(job.task_id)
    _cancel_ours(deps, matching)


def _off_the_loop(work: Callable[..., None], *args: Any) -> None:
    def guarded() -> None:
        try:
            work(*args)
        except Exception:
            log.exception("revoke.failed")

    threading.Thread(target=guarded, name="runpod-revoke", daemon=True).start()
